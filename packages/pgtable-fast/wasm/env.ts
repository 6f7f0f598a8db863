// What the host gives to every engine module, next to the memory itself.

/** Grows the pool by at least `pages` 4 KiB pages. 0, or -12 when the pool is at its maximum. */
@external("env", "grow") export declare function grow(pages: u32): i32;
/** High half of the pool's host-physical addresses. Their low half is the memory offset itself. */
@external("env", "baseHi") export declare const BASE_HI: u32;
/** Memory offset where the pool starts, a multiple of 2 MiB: the low half of its base address. */
@external("env", "origin") export declare const ORIGIN: u32;
/** Offset of the scratch area: arguments and results of list, batch and bitmap operations. One per thread. */
@external("env", "scratch") export declare const SCRATCH: u32;
