// What the host gives to every engine module, next to the memory itself.

/** Grows the pool by at least `pages` 4 KiB pages. 0, or -12 when the pool is at its maximum. */
@external("env", "grow") export declare function grow(pages: u32): i32;
/** Host-physical address of memory offset 0, low and high half. Multiple of 2 MiB. */
@external("env", "baseLo") export declare const BASE_LO: u32;
@external("env", "baseHi") export declare const BASE_HI: u32;
/** Offset of the scratch area: arguments and results of list, batch and bitmap operations. One per thread. */
@external("env", "scratch") export declare const SCRATCH: u32;
