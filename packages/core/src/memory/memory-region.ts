/**
 * Stretches of memory at physical addresses.
 * @module
 */

import type { RegionState } from '../snapshot/memory-state.ts';
import { pageContents, setPageContents } from '../snapshot/page-contents.ts';
import { FrameBitmap } from './frame-bitmap.ts';

/** Bytes of a page frame. */
export const PAGE_BYTES = 4096;

/**
 * A stretch of memory at a physical address. Its views may be replaced when the memory behind it
 * grows: never keep them across calls.
 */
export interface MemoryRegion {
  readonly name: string;
  /** First byte address, a multiple of 4096. */
  readonly base: number;
  /** Bytes, a multiple of 4096, at most 2^32. */
  readonly size: number;
  /** The bytes. */
  u8: Uint8Array;
  /** The same bytes; the word at `pa` has index `(pa - base) >>> 2`. */
  i32: Int32Array;
}

/** A region whose bytes live in somebody else's buffer. */
export interface BackedRegion extends MemoryRegion {
  /** Take new views; call it after the buffer was replaced (WebAssembly memory grew). */
  refresh(): void;
}

/** Where a region stands. */
export interface RegionOptions {
  readonly name: string;
  /** Physical byte address, a multiple of 4096. */
  readonly base: number;
  /** Bytes, a multiple of 4096, at most 2^32. */
  readonly size: number;
}

/** A region over an existing buffer. */
export interface BackedRegionOptions extends RegionOptions {
  /** The buffer as it is now; asked again at every `refresh`. */
  buffer(): ArrayBuffer | SharedArrayBuffer;
  /** Offset of the region in the buffer, a multiple of 4. */
  readonly byteOffset: number;
  /** False when the owner carries the bytes through a snapshot itself; default true. */
  readonly carried?: boolean;
}

/** A region as this package keeps it. */
export class Ram implements MemoryRegion {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  u8: Uint8Array;
  i32: Int32Array;
  /** Frames for `allocPages`; none in a backed region. */
  readonly frames: FrameBitmap | undefined;
  /** Frames that were handed out once and may hold old bytes. */
  readonly stale: FrameBitmap | undefined;
  private readonly backing: BackedRegionOptions | undefined;

  constructor(options: RegionOptions, backing?: BackedRegionOptions) {
    this.name = options.name;
    this.base = options.base;
    this.size = options.size;
    this.backing = backing;
    const buffer = backing ? backing.buffer() : new ArrayBuffer(options.size);
    this.u8 = new Uint8Array(buffer, backing?.byteOffset ?? 0, options.size);
    this.i32 = new Int32Array(buffer, backing?.byteOffset ?? 0, options.size / 4);
    this.frames = backing ? undefined : new FrameBitmap(options.size / PAGE_BYTES);
    this.stale = backing ? undefined : new FrameBitmap(options.size / PAGE_BYTES);
  }

  /** Whether a snapshot of the memory holds this region. */
  get carried(): boolean {
    return this.backing?.carried ?? true;
  }

  /** Frames and every page that is not all zero, for a snapshot. */
  save(): RegionState {
    const { name, base, size, frames, stale } = this;
    return {
      name,
      base,
      size,
      frames: frames && stale && { used: frames.save(), stale: stale.save() },
      content: pageContents(this.u8, this.i32),
    };
  }

  /**
   * @param state of a region of this size
   * @param now what the region holds, as `save` gave it
   */
  load({ frames, content }: RegionState, now: RegionState): void {
    if (frames) {
      this.frames?.load(frames.used);
      this.stale?.load(frames.stale);
    }
    setPageContents(this.u8, content, now.content);
  }

  refresh(): void {
    if (!this.backing) return;
    const buffer = this.backing.buffer();
    if (buffer === this.u8.buffer) return;
    this.u8 = new Uint8Array(buffer, this.backing.byteOffset, this.size);
    this.i32 = new Int32Array(buffer, this.backing.byteOffset, this.size / 4);
  }
}
