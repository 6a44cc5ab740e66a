import { PARAM } from './shader.ts';

/**
 * A shader is a .wgsl file with declarations put in front of it and its parameters given values.
 *
 * WGSL does not care in what order module-scope declarations come, so library functions, element types, extra bindings
 * and fused epilogues are all the same thing: text in front. A parameter is declared in the file as
 * `override NAME: u32 = 64;` and becomes `const NAME: u32 = 32u;`, which, unlike an override, may size any array and works
 * in every browser. There is no template language.
 *
 * Elements. A file declares a storage binding as `var<storage, read> x: array<XStore>`; how the element is stored is
 * the launch's choice, and the prelude supplies, from the binding's name:
 *   X                                the type its elements have in arithmetic (f32, i32, u32, bool, or vec2u for 64-bit integers)
 *   fn load_x(i: u32) -> X           element i
 *   fn load4_x(i: u32) -> vec4<X>    elements 4i .. 4i+3 (not for 64-bit integers)
 *   fn store4_y(i: u32, a: Y, b: Y, c: Y, d: Y)   writes elements 4i .. 4i+3; every buffer is padded to 16 bytes, so a tail may be overwritten
 *                                    (64-bit integers: only those inside the binding)
 *   fn store_y(i: u32, v: Y)         writes one element; only where an element is at least a word (or native f16)
 * f16 is read through unpack2x16float where the device has no shader-f16.
 */
export type Elem =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'i32'
  | 'u32'
  | 'i16'
  | 'u16'
  | 'i8'
  | 'u8'
  | 'bool'
  | 'i64'
  | 'u64'
  | 'i4'
  | 'u4';

export interface WgslModule<
  Uniforms extends string = string, // members of `struct Uniforms`
  Params extends string = string, // its `override`s
  Slots extends string = string, // functions its `// slot: fn …` lines ask for
> {
  readonly name: string;
  readonly source: string; // the .wgsl file, byte for byte
  readonly bindings: readonly { readonly name: string; readonly access: 'read' | 'read_write' }[];
  readonly uniforms: readonly {
    readonly name: Uniforms;
    readonly type: string;
    readonly offset: number;
    readonly size: number;
  }[];
  readonly uniformBytes: number; // 0: the module has no uniforms
  readonly params: Readonly<Record<Params, number>>; // with the file's defaults
  readonly slots: readonly Slots[];
  readonly library: ReadonlyMap<string, string>; // declarations that come with it, by name
}

export interface Specialization {
  /** Element type of each storage binding, the extra ones too. */
  readonly types: Readonly<Record<string, Elem>>;
  readonly params?: Readonly<Record<string, number>>;
  /** Slot name -> the text of the whole `fn`. Further functions may ride along under any name. */
  readonly slots?: Readonly<Record<string, string>>;
  /** Read-only bindings that the file does not know of: operands of slots. They follow the file's own. */
  readonly extra?: readonly string[];
  /** Members of `struct Extra`, uniforms that the slots read as `extra.name`. */
  readonly extraUniforms?: readonly { readonly name: string; readonly type: 'u32' | 'i32' | 'f32' }[];
}

/** Two shaders are the same exactly when their code is. Nobody ever writes a cache key. */
export interface Shader {
  readonly name: string;
  readonly code: string;
  readonly requires: readonly string[];
  /** The bind group's layout, by binding number. */
  readonly layout: readonly ('read' | 'read_write' | 'uniform')[];
}

/** `common` maps a library function or constant that any text may use to the block of a lib/ file that declares it. */
export function assemble(
  module: WgslModule,
  spec: Specialization,
  common: ReadonlyMap<string, string>,
  nativeF16: boolean,
): Shader {
  const lib = module.library.size === 0 ? common : new Map([...common, ...module.library]);
  const slots = Object.values(spec.slots ?? {});
  for (const slot of module.slots)
    if (spec.slots?.[slot] === undefined) throw new Error(`${module.name}: slot ${slot} is not filled`);
  const body = module.source.replace(
    PARAM,
    (_, name: string, type: string) =>
      `const ${name}: ${type} = ${literal(spec.params?.[name] ?? module.params[name]!, type)};`,
  );

  const own = module.bindings.length + (module.uniformBytes > 0 ? 1 : 0);
  const extra = spec.extra ?? [];
  const extraBindings = extra.map(
    (name, i) => `@group(0) @binding(${own + i}) var<storage, read> ${name}: array<${camel(name)}Store>;`,
  );
  const members = spec.extraUniforms ?? [];
  const extraUniforms =
    members.length === 0
      ? []
      : [
          `struct Extra { ${members.map((m) => `${m.name}: ${m.type}`).join(', ')} }`,
          `@group(0) @binding(${own + extra.length}) var<uniform> extra: Extra;`,
        ];

  const text = [...slots, body].join('\n');
  const calls = [text, ...libraryFor(text, lib)].join('\n');
  const accessors = [...module.bindings, ...extra.map((name) => ({ name, access: 'read' as const }))].flatMap(
    ({ name, access }) => {
      const elem = spec.types[name];
      if (elem === undefined) return []; // the file declares the whole type itself
      return accessorsOf(name, elem, access, nativeF16).filter((line) => {
        const fn = /^fn (\w+)/.exec(line)?.[1];
        return fn === undefined || new RegExp(`\\b${fn}\\(`).test(calls);
      });
    },
  );
  const used = libraryFor([...accessors, text].join('\n'), lib);
  const f16 = nativeF16 && Object.values(spec.types).includes('f16');
  const subgroups = /\bsubgroup[A-Z]\w*\(|\bsubgroup_(size|invocation_id)\b/.test(text);
  const matrices = text.includes('subgroup_matrix_');
  const code = [
    matrices ? 'enable chromium_experimental_subgroup_matrix;' : '',
    f16 ? 'enable f16;' : '',
    subgroups ? 'enable subgroups;' : '',
    ...accessors,
    ...extraBindings,
    ...extraUniforms,
    ...used,
    ...slots,
    body,
  ]
    .filter((s) => s !== '')
    .join('\n');
  const layout: Shader['layout'] = [
    ...module.bindings.map((b) => b.access),
    ...(module.uniformBytes > 0 ? ['uniform' as const] : []),
    ...extra.map(() => 'read' as const),
    ...(members.length > 0 ? ['uniform' as const] : []),
  ];
  return {
    name: module.name,
    code,
    requires: [
      ...(matrices ? ['chromium-experimental-subgroup-matrix'] : []),
      ...(f16 ? ['shader-f16'] : []),
      ...(subgroups ? ['subgroups'] : []),
    ],
    layout,
  };
}

/** "in0" -> "In0": the type names of a binding. */
export const camel = (name: string): string => name.replace(/(?:^|_)(\w)/g, (_, c: string) => c.toUpperCase());

function literal(value: number, type: string): string {
  if (type === 'bool') return value ? 'true' : 'false';
  if (type === 'f32') return Number.isInteger(value) ? `${value}.0` : `${value}`;
  return type === 'u32' ? `${value}u` : `${value}i`;
}

/** Lib texts that `text` uses, and those that they use. */
function libraryFor(text: string, lib: ReadonlyMap<string, string>): string[] {
  const found = new Set<string>();
  // a slot or module may use a name of the library for itself
  const own = new Set(Array.from(text.matchAll(/\bfn (\w+)\(/g), (m) => m[1]!));
  const visit = (t: string): void => {
    for (const [, word] of t.matchAll(/\b([A-Za-z_]\w*)\b/g)) {
      const source = lib.get(word!);
      if (source !== undefined && !found.has(source) && !own.has(word!)) {
        found.add(source);
        visit(source);
      }
    }
  };
  visit(text);
  return [...found].sort();
}

/** The arithmetic type of an element. */
export const VALUE_TYPE: Readonly<Record<Elem, string>> = {
  f32: 'f32',
  f16: 'f32',
  bf16: 'f32',
  i32: 'i32',
  u32: 'u32',
  i16: 'i32',
  u16: 'u32',
  i8: 'i32',
  u8: 'u32',
  bool: 'bool',
  i64: 'vec2u',
  u64: 'vec2u',
  i4: 'i32',
  u4: 'u32',
};
/** Elements per 32-bit word, 0 for two words an element. */
const PER_WORD: Readonly<Record<Elem, number>> = {
  f32: 1,
  i32: 1,
  u32: 1,
  f16: 2,
  bf16: 2,
  i16: 2,
  u16: 2,
  i8: 4,
  u8: 4,
  bool: 4,
  i64: 0,
  u64: 0,
  i4: 8,
  u4: 8,
};

function accessorsOf(name: string, elem: Elem, access: 'read' | 'read_write', nativeF16: boolean): string[] {
  const T = camel(name);
  const V = VALUE_TYPE[elem];
  const native = elem === 'f16' && nativeF16;
  const per = native ? 1 : PER_WORD[elem];
  const store = native ? 'f16' : per === 0 ? 'vec2u' : per === 1 ? V : 'u32';
  const lines = [`alias ${T} = ${V};`, `alias ${T}Store = ${store};`];
  const four = (f: (k: number) => string): string => [0, 1, 2, 3].map(f).join(', ');

  if (per === 0) {
    lines.push(`fn load_${name}(i: u32) -> ${T} { return ${name}[i]; }`);
    if (access === 'read_write')
      lines.push(
        `fn store_${name}(i: u32, v: ${T}) { ${name}[i] = v; }`,
        `fn store4_${name}(i: u32, a: ${T}, b: ${T}, c: ${T}, d: ${T}) { let o = i * 4u; let n = arrayLength(&${name}); ${['a', 'b', 'c', 'd'].map((v, k) => `if (o + ${k}u < n) { ${name}[o + ${k}u] = ${v}; }`).join(' ')} }`,
      );
    return lines;
  }
  if (per === 1) {
    const read = (e: string): string => (native ? `f32(${e})` : e);
    const write = (e: string): string => (native ? `f16(${e})` : e);
    lines.push(
      `fn load_${name}(i: u32) -> ${T} { return ${read(`${name}[i]`)}; }`,
      `fn load4_${name}(i: u32) -> vec4<${T}> { let o = i * 4u; return vec4<${T}>(${four((k) => read(`${name}[o + ${k}u]`))}); }`,
    );
    if (access === 'read_write')
      lines.push(
        `fn store_${name}(i: u32, v: ${T}) { ${name}[i] = ${write('v')}; }`,
        `fn store4_${name}(i: u32, a: ${T}, b: ${T}, c: ${T}, d: ${T}) { let o = i * 4u; ${['a', 'b', 'c', 'd'].map((v, k) => `${name}[o + ${k}u] = ${write(v)};`).join(' ')} }`,
      );
    return lines;
  }
  if (elem === 'f16' || elem === 'bf16') {
    const pair =
      elem === 'f16'
        ? (w: string) => `unpack2x16float(${w})`
        : (w: string) => `vec2f(bitcast<f32>(${w} << 16u), bitcast<f32>(${w} & 0xffff0000u))`;
    lines.push(
      `fn load_${name}(i: u32) -> ${T} { let w = ${name}[i >> 1u]; let p = ${pair('w')}; return select(p.x, p.y, (i & 1u) == 1u); }`,
      `fn load4_${name}(i: u32) -> vec4<${T}> { let w = ${name}[i * 2u]; let z = ${name}[i * 2u + 1u]; return vec4f(${pair('w')}, ${pair('z')}); }`,
    );
    if (access === 'read_write')
      lines.push(
        `fn store4_${name}(i: u32, a: ${T}, b: ${T}, c: ${T}, d: ${T}) { ${name}[i * 2u] = pack_${elem}(a, b); ${name}[i * 2u + 1u] = pack_${elem}(c, d); }`,
      );
    return lines;
  }
  const bits = 32 / per;
  const signed = elem === 'i8' || elem === 'i16' || elem === 'i4';
  const shift = Math.log2(per);
  const at = (w: string, by: string): string =>
    elem === 'bool'
      ? `(extractBits(${w}, ${by}, 8u) != 0u)`
      : signed
        ? `extractBits(bitcast<i32>(${w}), ${by}, ${bits}u)`
        : `extractBits(${w}, ${by}, ${bits}u)`;
  lines.push(
    `fn load_${name}(i: u32) -> ${T} { return ${at(`${name}[i >> ${shift}u]`, `(i & ${per - 1}u) * ${bits}u`)}; }`,
  );
  const word = (v: string): string =>
    elem === 'bool'
      ? `select(0u, 1u, ${v})`
      : signed
        ? `(bitcast<u32>(${v}) & ${bits === 16 ? '0xffffu' : '0xffu'})`
        : `(${v} & ${bits === 16 ? '0xffffu' : '0xffu'})`;
  if (per === 4) {
    lines.push(
      `fn load4_${name}(i: u32) -> vec4<${T}> { let w = ${name}[i]; return vec4<${T}>(${four((k) => at('w', `${k * 8}u`))}); }`,
    );
    if (access === 'read_write')
      lines.push(
        `fn store4_${name}(i: u32, a: ${T}, b: ${T}, c: ${T}, d: ${T}) { ${name}[i] = ${word('a')} | (${word('b')} << 8u) | (${word('c')} << 16u) | (${word('d')} << 24u); }`,
      );
  } else if (per === 2) {
    lines.push(
      `fn load4_${name}(i: u32) -> vec4<${T}> { let w = ${name}[i * 2u]; let z = ${name}[i * 2u + 1u]; return vec4<${T}>(${at('w', '0u')}, ${at('w', '16u')}, ${at('z', '0u')}, ${at('z', '16u')}); }`,
    );
    if (access === 'read_write')
      lines.push(
        `fn store4_${name}(i: u32, a: ${T}, b: ${T}, c: ${T}, d: ${T}) { ${name}[i * 2u] = ${word('a')} | (${word('b')} << 16u); ${name}[i * 2u + 1u] = ${word('c')} | (${word('d')} << 16u); }`,
      );
  }
  return lines;
}
