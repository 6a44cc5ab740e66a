import { type Constant, eachPart, inFileOrder, PART } from '../../core/graph.ts';
import type { GpuCaps, Weight } from '../../core/plan.ts';
import type { HostWork } from '../executable.ts';
import { uploadBytes } from './transfer.ts';

export interface PlacedWeight {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly constant: Constant;
  readonly form: string;
}

export interface WeightStore {
  /** Puts weights into device memory; one that is there already, in the same arrangement, is used again. */
  place(weights: readonly Weight[], constants: readonly Constant[], work: HostWork): Promise<PlacedWeight[]>;
  drop(placed: readonly PlacedWeight[]): void;
  release(): void;
}

/** Bytes of weights between two looks at what has arrived. */
const LOT = 16 << 20;

/** One buffer for weights that arrive together; freed when none of them is used any more. */
interface Shelf {
  readonly buffer: GPUBuffer;
  users: number;
}

export function weightStore(
  device: GPUDevice,
  caps: GpuCaps,
  create: (size: number, usage: number, label: string) => GPUBuffer,
  destroy: (b: GPUBuffer) => void,
): WeightStore {
  const stored = new Map<Constant, Map<string, { shelf: Shelf; offset: number; users: number }>>();
  const shelves = new Set<Shelf>();
  const align = caps.limits.minStorageBufferOffsetAlignment;
  const limit = caps.limits.maxBufferSize;
  let written = 0;
  let before: Promise<unknown> = Promise.resolve();

  /** Bytes on their way lie in staging memory: once as many as a lot are written, the lot before must have arrived. */
  async function send(buffer: GPUBuffer, offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; at += PART) {
      const part = bytes.subarray(at, at + PART);
      uploadBytes(device, buffer, offset + at, part);
      if ((written += part.byteLength) < LOT) continue;
      written = 0;
      const last = before;
      before = Promise.race([device.queue.onSubmittedWorkDone(), device.lost]);
      await last;
    }
  }

  return {
    async place(weights, constants, work) {
      const keyed = weights.map((w) => ({
        weight: w,
        constant: constants[w.constant]!,
        form: w.pack ? JSON.stringify(w.pack) : '',
      }));
      const fresh = keyed.filter(({ constant, form }) => !stored.get(constant)?.has(form));
      // Offsets first, then one buffer per shelf, then the bytes.
      let size = 0;
      let group: { at: number; item: (typeof fresh)[number] }[] = [];
      const groups: { size: number; items: typeof group }[] = [];
      for (const item of fresh) {
        const bytes = Math.max(16, Math.ceil(item.weight.bytes / align) * align);
        if (size + bytes > limit && group.length > 0) {
          groups.push({ size, items: group });
          [size, group] = [0, []];
        }
        group.push({ at: size, item });
        size += bytes;
      }
      if (group.length > 0) groups.push({ size, items: group });
      for (const g of groups) {
        const shelf: Shelf = {
          buffer: create(g.size, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC, 'weights'),
          users: 0,
        };
        shelves.add(shelf);
        for (const { at, item } of inFileOrder(g.items, ({ item }) => item.constant)) {
          if (item.weight.pack) await send(shelf.buffer, at, work.pack(await item.constant.load(), item.weight.pack));
          else await eachPart(item.constant, (bytes, from) => send(shelf.buffer, at + from, bytes));
          const forms = stored.get(item.constant) ?? new Map<string, { shelf: Shelf; offset: number; users: number }>();
          stored.set(item.constant, forms);
          forms.set(item.form, { shelf, offset: at, users: 0 });
        }
      }
      return keyed.map(({ constant, form }) => {
        const place = stored.get(constant)!.get(form)!;
        place.users++;
        place.shelf.users++;
        return { buffer: place.shelf.buffer, offset: place.offset, constant, form };
      });
    },
    drop(placed) {
      for (const p of placed) {
        const forms = stored.get(p.constant);
        const place = forms?.get(p.form);
        if (forms === undefined || place === undefined) continue;
        if (--place.users === 0) {
          forms.delete(p.form);
          if (forms.size === 0) stored.delete(p.constant);
        }
        if (--place.shelf.users === 0) {
          destroy(place.shelf.buffer);
          shelves.delete(place.shelf);
        }
      }
    },
    release() {
      for (const s of shelves) destroy(s.buffer);
      shelves.clear();
      stored.clear();
    },
  };
}
