import { createPinia } from 'pinia';
import { createApp } from 'vue';
import App from './App.vue';
import { router } from './router';
import { obeyPreferences } from './stores/preferences';
import './styles/tokens.css';
import './styles/base.css';
import './styles/prose.css';

await obeyPreferences();
createApp(App).use(createPinia()).use(router).mount('#app');
