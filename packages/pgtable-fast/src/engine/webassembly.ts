/**
 * The part of the WebAssembly interface that is used here. The library needs no DOM and no Node types.
 * @module
 */

/** A growable linear memory. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  /** Adds 64 KiB pages; throws when the maximum or the machine does not allow it. */
  grow(wasmPages: number): number;
}

/** An opaque compiled module. */
export type WasmModule = object;

declare const WebAssembly: {
  Memory: new (descriptor: { initial: number; maximum: number; shared?: boolean }) => WasmMemory;
  Module: new (bytes: Uint8Array) => WasmModule;
  Instance: new (
    module: WasmModule,
    imports: object,
  ) => { readonly exports: Readonly<Record<string, unknown>> };
  validate(bytes: Uint8Array): boolean;
};
declare function atob(base64: string): string;

/** Bytes of one WebAssembly memory page. */
export const WASM_PAGE_BYTES = 65536;

/** Creates a memory; sizes in bytes, multiples of 64 KiB. */
export function createMemory(initialBytes: number, maxBytes: number, shared: boolean): WasmMemory {
  const initial = initialBytes / WASM_PAGE_BYTES;
  const maximum = maxBytes / WASM_PAGE_BYTES;
  return new WebAssembly.Memory(shared ? { initial, maximum, shared } : { initial, maximum });
}

/** Compiles a base64 module. */
export function compile(base64: string): WasmModule {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new WebAssembly.Module(bytes);
}

/** Instantiates a module and returns its exports. */
export function instantiate<E>(module: WasmModule, imports: object): E {
  return new WebAssembly.Instance(module, imports).exports as E;
}

/** The smallest module with a `v128` instruction. */
const SIMD_PROBE = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
];

/** Whether this host runs 128-bit SIMD. */
export function hasSimd(): boolean {
  return WebAssembly.validate(new Uint8Array(SIMD_PROBE));
}
