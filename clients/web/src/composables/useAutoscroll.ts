/** Follow a growing conversation, but only for who is at its end. */
import { type Ref, nextTick, onBeforeUnmount, ref, watch } from 'vue';

const NEAR_PX = 80;

export function useAutoscroll(scroller: Ref<HTMLElement | null>, content: Ref<HTMLElement | null>) {
  const following = ref(true);
  let lastTop = 0;
  let resized: ResizeObserver | null = null;

  function distance(): number {
    const element = scroller.value;
    return element ? element.scrollHeight - element.scrollTop - element.clientHeight : 0;
  }

  function onScroll(): void {
    const top = scroller.value?.scrollTop ?? 0;
    const away = distance();
    // Growing text moves the end away from a reader; only a reader moves up.
    if (away <= NEAR_PX) following.value = true;
    else if (top < lastTop) following.value = false;
    lastTop = top;
  }

  function follow(): void {
    const element = scroller.value;
    if (element && following.value) element.scrollTop = element.scrollHeight;
  }

  function toEnd(smooth = false): void {
    following.value = true;
    scroller.value?.scrollTo({
      top: scroller.value.scrollHeight,
      behavior: smooth ? 'smooth' : 'instant',
    });
  }

  /** Change what is above without moving what is looked at. */
  async function keepPlace(change: () => Promise<void>): Promise<void> {
    const element = scroller.value;
    const anchor = content.value?.firstElementChild;
    if (!element || !anchor) return change();
    element.style.overflowAnchor = 'none';
    const before = anchor.getBoundingClientRect().top;
    await change();
    await nextTick();
    element.scrollTop += anchor.getBoundingClientRect().top - before;
    element.style.overflowAnchor = '';
  }

  watch(
    [scroller, content],
    ([outer, inner], [before]) => {
      before?.removeEventListener('scroll', onScroll);
      resized?.disconnect();
      if (!outer || !inner) return;
      outer.addEventListener('scroll', onScroll, { passive: true });
      resized = new ResizeObserver(follow);
      resized.observe(inner);
      resized.observe(outer);
    },
    { flush: 'post' },
  );
  onBeforeUnmount(() => resized?.disconnect());

  return { following, toEnd, keepPlace };
}
