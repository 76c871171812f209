import { createPinia, setActivePinia } from 'pinia';
import { beforeEach, expect, it } from 'vitest';
import { useHerd } from '@/stores/herd';
import { useSession } from '@/stores/session';
import { Fake, refusal, until } from './support/fake';

let fake: Fake;

beforeEach(() => {
  setActivePinia(createPinia());
  fake = new Fake();
  fake.instead.set('GET /admin/events', () => refusal(401, 'invalid_api_key'));
});

it.each([
  ['key', 'key'],
  ['closed', 'closed'],
] as const)('knows why it is refused, also when that comes first (%s)', async (admin, why) => {
  fake.session = { ...fake.session, admin };
  const herd = useHerd();
  void herd.follow();
  await until(() => fake.asked.some((asked) => asked.path === '/admin/events'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(herd.refused).toBeNull();
  await useSession().start();
  expect(herd.refused).toBe(why);
  expect(herd.wrongKey).toBe(false);
});

it('asks for another key when one is not taken', async () => {
  fake.session = { ...fake.session, admin: 'key' };
  await useSession().start();
  const herd = useHerd();
  await herd.signIn('wrong', false);
  expect([herd.refused, herd.wrongKey]).toEqual(['key', true]);
  expect(fake.asked.filter((asked) => asked.path === '/admin/events')).toHaveLength(1);
});
