/** What a person has chosen for this browser. */
import { reactive, watch } from 'vue';
import { type Locale, preferred, setLocale } from '@/i18n';

export type Theme = 'system' | 'light' | 'dark';

interface Preferences {
  theme: Theme;
  language: Locale;
  /** Whether Enter alone sends, or only with Ctrl. */
  enterSends: boolean;
  sidebar: boolean;
  /** What new chats begin with. */
  model: string | null;
  /** What is compared. */
  compared: string[];
}

const NAME = 'corral.preferences';

function saved(): Partial<Preferences> {
  try {
    return JSON.parse(localStorage.getItem(NAME) ?? '{}') as Partial<Preferences>;
  } catch {
    return {};
  }
}

export const preferences = reactive<Preferences>({
  theme: 'system',
  language: preferred(navigator.languages ?? [navigator.language]),
  enterSends: true,
  sidebar: true,
  model: null,
  compared: [],
  ...saved(),
});

/** Obey the preferences from now on; resolves when the words are there. */
export async function obeyPreferences(): Promise<void> {
  watch(
    () => preferences.theme,
    (theme) => {
      const root = document.documentElement;
      if (theme === 'system') root.removeAttribute('data-theme');
      else root.dataset['theme'] = theme;
    },
    { immediate: true },
  );
  watch(
    preferences,
    () => {
      try {
        localStorage.setItem(NAME, JSON.stringify(preferences));
      } catch {
        // storage is forbidden: they last as long as the page
      }
    },
    { deep: true },
  );
  watch(
    () => preferences.language,
    (language) => void setLocale(language),
  );
  await setLocale(preferences.language);
}
