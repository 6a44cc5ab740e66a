import type { WgslModule } from './assemble.ts';

/**
 * A shader from its text: bindings, uniforms and parameters stand in it. Members of `struct Uniforms` are 32-bit
 * scalars, vectors of two or four of them, and arrays of vectors of four, which lie without padding between equal ones;
 * a test holds the layout to a WGSL parser's.
 * `library`: blocks of declarations of wgsl/lib that no other text than shaders' uses.
 */
export function shader<U extends string, P extends string, S extends string>(
  name: string,
  source: string,
  slots: readonly S[] = [],
  library: readonly string[] = [],
): WgslModule<U, P, S> {
  let end = 0;
  const uniforms = Array.from(
    (/^struct Uniforms \{([^}]*)/m.exec(source)?.[1] ?? '').matchAll(/(\w+): (array<(.*?), (\d)>|\w+)/g),
    ([, member, type, element, count]) => {
      const size = 4 * Number(/vec(\d)/.exec(element ?? type!)?.[1] ?? 1);
      const offset = Math.ceil(end / size) * size;
      end = offset + size * Number(count ?? 1);
      return { name: member as U, type: type!, offset, size: end - offset };
    },
  );
  return {
    name,
    source,
    slots,
    uniforms,
    library: declarations(library),
    uniformBytes: Math.ceil(end / 16) * 16,
    bindings: Array.from(source.matchAll(/^@group.*storage, (\w+)> (\w+)/gm), ([, access, binding]) => ({
      name: binding!,
      access: access as 'read',
    })),
    params: Object.fromEntries(
      Array.from(source.matchAll(PARAM), ([, param, type, value]) => [
        param,
        type === 'bool' ? Number(value === 'true') : Number(value),
      ]),
    ) as Record<P, number>,
  };
}

/** The only form an override may take; a test holds every file to it. */
export const PARAM = /^override (\w+): (u32|i32|f32|bool) = ([\w.+-]+);/gm;

/** Each block of declarations by the names that it declares. */
export const declarations = (blocks: readonly string[]): ReadonlyMap<string, string> =>
  new Map(
    blocks.flatMap((text) =>
      Array.from(text.matchAll(/^(?:const|fn|alias|struct) (\w+)/gm), ([, name]): [string, string] => [name!, text]),
    ),
  );
