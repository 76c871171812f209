/** What is open around the pages. */
import { ref } from 'vue';

/** The sidebar, where it lies over the page. */
export const drawer = ref(false);
export const helpShown = ref(false);
