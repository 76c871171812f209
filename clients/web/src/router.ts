import { createRouter, createWebHistory } from 'vue-router';
import ChatPage from './pages/ChatPage.vue';

export const router = createRouter({
  history: createWebHistory(),
  routes: [
    { path: '/', name: 'new', component: ChatPage },
    { path: '/c/:id', name: 'chat', component: ChatPage },
    { path: '/compare', name: 'compare', component: () => import('./pages/ComparePage.vue') },
    { path: '/herd', name: 'herd', component: () => import('./pages/HerdPage.vue') },
    { path: '/settings', name: 'settings', component: () => import('./pages/SettingsPage.vue') },
    { path: '/:rest(.*)*', redirect: '/' },
  ],
});
