/**
 * How PASID allocators and policies, which a program holds itself, stand in a snapshot.
 * @module
 */
import { bool, list, nat, oneOf, type Stored, struct, text, u8, u16, u32 } from './codec.ts';

/** A PASID allocator. */
export const ALLOCATOR = struct({
  pasidBits: u8,
  firstPasid: u32,
  quota: nat,
  label: text,
  parkFreed: bool,
  used: list(u32),
  parked: list(u32),
  lowest: u32,
});
/** See {@link ALLOCATOR}. */
export type AllocatorState = Stored<typeof ALLOCATOR>;

/** PASIDs of the host. */
export const HOST_PASIDS = struct({
  pasidBits: u8,
  firstPasid: u32,
  global: ALLOCATOR,
  rids: list(struct({ rid: u16, guest: bool, devices: u32, space: ALLOCATOR })),
});
/** See {@link HOST_PASIDS}. */
export type HostPasidsState = Stored<typeof HOST_PASIDS>;

/** PASIDs of a guest. */
export const GUEST_PASIDS = struct({
  devices: list(
    struct({
      name: text,
      rid: u16,
      type: u8,
      /** 0 = none. */
      defaultPasid: u32,
      mappings: list(struct({ vpasid: u32, ppasid: u32 })),
    }),
  ),
  global: list(struct({ vpasid: u32, ppasid: u32, users: u32 })),
});
/** See {@link GUEST_PASIDS}. */
export type GuestPasidsState = Stored<typeof GUEST_PASIDS>;

/** One thing that the program holds, under the program's name for it. */
export const HELD = struct({
  name: text,
  value: oneOf({
    allocator: struct({ state: ALLOCATOR }),
    hostPasids: struct({ state: HOST_PASIDS }),
    /** `host` is the position of its host PASIDs among the held things. */
    guestPasids: struct({ host: u32, state: GUEST_PASIDS }),
    devicePasids: struct({ context: u32, device: u32, state: ALLOCATOR }),
    enqcmd: struct({ ppasids: list(struct({ vpasid: u32, ppasid: u32 })) }),
  }),
});
/** See {@link HELD}. */
export type HeldState = Stored<typeof HELD>;
