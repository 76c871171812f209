// What jsdom has not: a wide window, a mouse and a keyboard.
window.matchMedia = (media) =>
  Object.assign(new EventTarget(), { matches: false, media }) as MediaQueryList;
