/**
 * What every page of the site needs: its elements, words for figures, files that are given, and a place where errors
 * are said.
 */
import type { Device } from 'sardonyx';

/** The element with that id. */
export function byId<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found as unknown as T;
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A new SVG element with attributes and children. */
export function draw<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | number>> = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export const milliseconds = (t: number): string =>
  t < 1
    ? `${(1000 * t).toFixed(0)} µs`
    : t < 10
      ? `${t.toFixed(1)} ms`
      : t < 10_000
        ? `${t.toFixed(0)} ms`
        : `${(t / 1000).toFixed(1)} s`;
export const bytes = (n: number): string =>
  n < 1024
    ? `${n} B`
    : n < 2 ** 20
      ? `${(n / 1024).toFixed(n < 10_240 ? 1 : 0)} KiB`
      : `${(n / 2 ** 20).toFixed(1)} MiB`;
export const count = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
export const DEVICE_NAMES = { webgpu: 'WebGPU', wasm: 'WASM', reference: 'the reference' } as const;

/** Says what the page is doing, for eyes and screen readers. */
export function say(text: string): void {
  byId('status').textContent = text;
}

/** Shows an error as it is worded; null takes it away. */
export function showError(e: unknown): void {
  const place = byId('error');
  place.hidden = e === null;
  if (e === null) return void place.replaceChildren();
  const { code, message } = e as { code?: string | null; message?: string };
  place.replaceChildren(...(code ? [make('strong', {}, String(code)), ' '] : []), message ?? String(e));
}

/** Runs an action of the page, and shows how it fails. */
export async function attempt(work: () => void | Promise<void>): Promise<void> {
  showError(null);
  try {
    await work();
  } catch (e) {
    say('');
    showError(e);
  }
}

/** The device that the reader of the page chose, and a call when that changes. */
export function chosenDevice(changed: () => void): () => Exclude<Device, GPUDevice> {
  const select = byId<HTMLSelectElement>('device');
  select.addEventListener('change', changed);
  return () => select.value as Exclude<Device, GPUDevice>;
}

/** Calls `take` with a file that is dropped on `zone`, chosen with the input, or pasted. */
export function takeFiles(zone: HTMLElement, input: HTMLInputElement, take: (file: File) => void): void {
  const given = (files: FileList | null | undefined): void => {
    if (files?.[0]) take(files[0]);
  };
  zone.addEventListener('dragover', (e) => {
    e.preventDefault();
    zone.classList.add('over');
  });
  for (const name of ['dragleave', 'drop']) zone.addEventListener(name, () => zone.classList.remove('over'));
  zone.addEventListener('drop', (e) => {
    e.preventDefault();
    given(e.dataTransfer?.files);
  });
  document.addEventListener('paste', (e) => given(e.clipboardData?.files));
  input.addEventListener('change', () => {
    given(input.files);
    input.value = '';
  });
}

/**
 * The bytes at an address, or null where nothing is. A server that answers every address with a page counts as nothing.
 */
export async function bytesIfThere(address: string): Promise<Uint8Array | null> {
  const response = await fetch(address);
  if (!response.ok || (response.headers.get('content-type') ?? '').includes('html')) return null;
  return new Uint8Array(await response.arrayBuffer());
}

// Not every browser lets the keyboard reach what scrolls.
for (const scroller of document.querySelectorAll<HTMLElement>('.scroll')) scroller.tabIndex = 0;
