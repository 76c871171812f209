import { ref } from 'vue';

const query = window.matchMedia('(max-width: 760px)');
/** Whether the sidebar has no room beside the page. */
export const narrow = ref(query.matches);
/** Whether people type on the screen itself. */
export const byTouch = window.matchMedia('(hover: none) and (pointer: coarse)');
query.addEventListener('change', (event) => (narrow.value = event.matches));
