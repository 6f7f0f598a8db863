import type { HardwareCase } from './case-file.ts';

const CHUNK_BYTES = 0x1_0000;
const RAM_LAST = 0x7fff_ffff;
const X86_RAM_BASE = 0;
const ARM_RAM_BASE = 0x4000_0000;
const WORDS_FIRST = 0x4800_0000;
const WORDS_LAST = 0x48ff_ffff;

/** A piece of RAM; what every hardware half asks its memory for. */
interface Chunk {
  readonly base: number;
  readonly size: number;
  readonly i32: Int32Array;
}

/** What an aligned dword of the address-word area holds: its own address. */
const addressWord = (address: number): number => 0xa000_0000 | ((address - 0x4000_0000) / 4);

/**
 * RAM of the machine that cases assume: zeros, and words that name their own address in
 * 48000000h..48ffffffh and wherever the case asks for them. Pieces appear when they are touched.
 */
export class CaseMemory {
  readonly #chunks = new Map<number, Chunk>();
  readonly #base: number;
  readonly #filled: readonly { readonly start: number; readonly last: number }[];

  constructor({ arch, fill = [] }: HardwareCase) {
    this.#base = arch === 'smmuv3' ? ARM_RAM_BASE : X86_RAM_BASE;
    this.#filled = [
      { start: WORDS_FIRST, last: WORDS_LAST },
      ...fill.map(({ addr, len }) => ({
        start: Number(addr),
        last: Number(addr) + Number(len) - 1,
      })),
    ];
  }

  /** The piece that answers at a byte address; undefined = nothing does. */
  regionAt(pa: number): Chunk | undefined {
    const index = Math.floor(pa / CHUNK_BYTES);
    const known = this.#chunks.get(index);
    if (known) return known;
    if (pa < this.#base || pa > RAM_LAST) return undefined;
    const chunk = { base: index * CHUNK_BYTES, size: CHUNK_BYTES, i32: this.#fresh(index) };
    this.#chunks.set(index, chunk);
    return chunk;
  }

  /** Write bytes anywhere in RAM; those that nothing answers for are lost. */
  write(pa: number, bytes: Uint8Array): void {
    bytes.forEach((byte, index) => {
      const chunk = this.regionAt(pa + index);
      if (chunk) bytesOf(chunk)[pa + index - chunk.base] = byte;
    });
  }

  /** Read bytes; 0 where nothing answers. */
  read(pa: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, index) => {
      const chunk = this.regionAt(pa + index);
      return chunk ? (bytesOf(chunk)[pa + index - chunk.base] ?? 0) : 0;
    });
  }

  /** Aligned dwords, lowest first. */
  readWords(pa: number, count: number): Uint32Array {
    const bytes = this.read(pa, count * 4);
    return new Uint32Array(bytes.buffer);
  }

  #fresh(index: number): Int32Array {
    const i32 = new Int32Array(CHUNK_BYTES / 4);
    const base = index * CHUNK_BYTES;
    for (const { start, last } of this.#filled) {
      const from = Math.max(start, base);
      const to = Math.min(last, base + CHUNK_BYTES - 1);
      for (let at = from; at <= to; at += 4) i32[(at - base) >>> 2] = addressWord(at);
    }
    return i32;
  }
}

const bytesOf = ({ i32 }: Chunk): Uint8Array => new Uint8Array(i32.buffer);
