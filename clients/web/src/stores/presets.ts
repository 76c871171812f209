import { defineStore } from 'pinia';
import { ref, shallowRef } from 'vue';
import type { Preset, Settings } from '@/api/types';
import { useSession } from './session';

/** Settings under names, kept with the history. */
export const usePresets = defineStore('presets', () => {
  const session = useSession();
  const list = shallowRef<Preset[]>([]);
  const loaded = ref(false);

  async function load(): Promise<void> {
    try {
      list.value = await session.history.presets();
      loaded.value = true;
    } catch (error) {
      session.failed(error);
    }
  }

  async function put(changed: Preset[]): Promise<void> {
    try {
      list.value = await session.history.putPresets(changed);
    } catch (error) {
      session.failed(error);
    }
  }

  async function save(name: string, settings: Settings): Promise<void> {
    const others = list.value.filter((preset) => preset.name !== name);
    await put([...others, { name, settings }].sort((a, b) => a.name.localeCompare(b.name)));
  }

  async function remove(name: string): Promise<void> {
    await put(list.value.filter((preset) => preset.name !== name));
  }

  return { list, loaded, load, save, remove };
});
