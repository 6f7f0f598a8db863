/**
 * Virtual command registers: PASID allocation by a hypervisor for its guest.
 *
 * @spec VT-d 11.4.15
 */
import { VCMD, VCRSP } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** Command codes. */
export const VIRTUAL_COMMAND = { NULL: 0, ALLOCATE_PASID: 1, FREE_PASID: 2 } as const;

/** Status codes. */
export const VIRTUAL_COMMAND_STATUS = { OK: 0, UNDEFINED: 1, NO_PASID: 16 } as const;

/** Who owns PASIDs: what the commands are passed to. */
export interface PasidAllocator {
  /** A free PASID, or -1. */
  allocatePasid(): number;
  /** False when the PASID is not allocated. */
  freePasid(pasid: number): boolean;
}

/** Allocates PASIDs of a fixed width in ascending order, from 1. */
export class PasidPool implements PasidAllocator {
  readonly #used = new Set<number>();
  readonly #limit: number;

  constructor(pasidBits: number) {
    this.#limit = 2 ** pasidBits;
  }

  /** The lowest free PASID, or -1. */
  allocatePasid(): number {
    if (this.#used.size >= this.#limit - 1) return -1;
    for (let pasid = 1; pasid < this.#limit; pasid++) {
      if (this.#used.has(pasid)) continue;
      this.#used.add(pasid);
      return pasid;
    }
    return -1;
  }

  /** False when the PASID is not allocated. */
  freePasid(pasid: number): boolean {
    return this.#used.delete(pasid);
  }

  /** PASIDs in use. */
  snapshot(): number[] {
    return [...this.#used];
  }

  /** Put a state back. */
  restore(used: readonly number[]): void {
    this.#used.clear();
    for (const pasid of used) this.#used.add(pasid);
  }
}

interface VirtualResponse {
  readonly status: number;
  readonly pasid: number;
}

function answer(command: number, operand: number, allocator: PasidAllocator): VirtualResponse {
  const { OK, UNDEFINED, NO_PASID } = VIRTUAL_COMMAND_STATUS;
  if (command === VIRTUAL_COMMAND.NULL) return { status: OK, pasid: 0 };
  if (command === VIRTUAL_COMMAND.ALLOCATE_PASID) {
    const pasid = allocator.allocatePasid();
    return pasid < 0 ? { status: NO_PASID, pasid: 0 } : { status: OK, pasid };
  }
  if (command !== VIRTUAL_COMMAND.FREE_PASID) return { status: UNDEFINED, pasid: 0 };
  return { status: allocator.freePasid(operand) ? OK : NO_PASID, pasid: 0 };
}

/** Software wrote the low dword of VCMD: execute, and answer in VCRSP. */
export function executeVirtualCommand(registers: RegisterFile, allocator: PasidAllocator): void {
  const lo = registers.get(VCMD.offset);
  const hi = registers.get(VCMD.offset + 4);
  const operand = (lo >>> 16) + (hi & 0xf) * 0x1_0000;
  const { status, pasid } = answer(lo & 0xff, operand, allocator);
  registers.set(VCRSP.offset, (status << 1) | ((pasid & 0xffff) << 16));
  registers.set(VCRSP.offset + 4, pasid >>> 16);
}
