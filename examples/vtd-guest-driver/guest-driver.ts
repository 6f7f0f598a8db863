/**
 * A driver for one VT-d unit in scalable mode, as small as it can be. Of iommukit it uses only the
 * layouts that the specification prints; it reaches the unit through registers and memory alone.
 */
import { decode, encode } from '@iommukit/bits';
import {
  CAP,
  CC_INV_DSC,
  DEV_TLB_INV_DSC,
  ECAP,
  GCMD,
  GSTS,
  IOTLB_INV_DSC,
  P_DEV_TLB_INV_DSC,
  P_IOTLB_INV_DSC,
  PASID_ENTRY,
  PC_INV_DSC,
  RTADDR,
  SM_CONTEXT_ENTRY,
  VER,
} from '@iommukit/driver-vtd';
import { DeviceTables } from './device-tables.ts';
import { Events } from './events.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import { PageTable } from './page-table.ts';
import { type Platform, poll, readRegister64, writeEntry, writeRegister64 } from './platform.ts';

/** PASID under which requests without PASID are looked up, when ECAP.RPS lets software choose. */
export const RID_PASID = 0;
/** Bits of GSTS that go back into GCMD: all but the one-shot commands. */
const KEPT_COMMANDS = 0x96ff_ffff;

/** An address space of a device: a table, and the domain id that tags it in caches. */
export interface Space {
  readonly table: PageTable;
  readonly did: number;
  readonly pasid: number;
}

/** A driver for one VT-d unit in scalable mode. */
export class GuestDriver {
  /** Faults and page requests. */
  readonly events: Events;
  readonly #platform: Platform;
  readonly #queue: InvalidationQueue;
  readonly #tables: DeviceTables;
  #nextDid = 1;

  /**
   * Bring the unit up from reset.
   *
   * @throws {Error} when the unit lacks something this driver needs, or does not answer
   */
  constructor(platform: Platform) {
    this.#platform = platform;
    this.#checkCapabilities();
    this.#queue = new InvalidationQueue(platform);
    this.#command('QIE', 'QIES');
    this.#tables = new DeviceTables(platform);
    const root = encode(RTADDR, { RTA: this.#tables.root, TTM: 'SCALABLE' });
    writeRegister64(platform, RTADDR.offset, root);
    this.#command('SRTP', 'RTPS');
    this.#invalidateAll();
    this.events = new Events(platform, this.#queue);
    this.#command('TE', 'TES');
  }

  /** One line about the unit. */
  get identity(): string {
    const { MAX, MIN } = decode(VER, [this.#platform.readRegister(VER.offset)]);
    const { MGAW, NFR, ND } = decode(CAP, readRegister64(this.#platform, CAP.offset));
    return (
      `VT-d ${MAX}.${MIN}, ${MGAW + 1}-bit addresses, ${4 + 2 * ND}-bit domain ids, ` +
      `${NFR + 1} fault records`
    );
  }

  /** Give a device its context entry: translations, PASIDs and page requests served. */
  addDevice(rid: number): void {
    const { PTRS } = decode(ECAP, readRegister64(this.#platform, ECAP.offset));
    writeEntry(this.#platform, this.#tables.contextAddress(rid), SM_CONTEXT_ENTRY, {
      P: 1,
      DTE: 1,
      PASIDE: 1,
      PRE: 1,
      EPTR: PTRS,
      PDTS: 0,
      PASIDDIRPTR: this.#tables.addDirectory(rid),
      RID_PASID,
    });
    this.#queue.push(CC_INV_DSC, { TYPE: 'CC_INV', G: 'SELECTIVE', SID: rid });
    this.#queue.flush();
  }

  /**
   * Give requests of a device with a PASID an address space of their own.
   *
   * @param stage which of its page tables: `second` for requests without PASID here
   */
  attach(rid: number, pasid: number, stage: 'first' | 'second'): Space {
    const space = { table: new PageTable(this.#platform, stage), did: this.#nextDid++, pasid };
    const { did } = space;
    const pointer =
      stage === 'first'
        ? { PGTT: 'FIRST_STAGE' as const, FSPM: 'LEVEL4' as const, FSPTPTR: space.table.root }
        : { PGTT: 'SECOND_STAGE' as const, AW: 'W48' as const, SSPTPTR: space.table.root };
    const at = this.#tables.pasidAddress(rid, pasid);
    writeEntry(this.#platform, at, PASID_ENTRY, { P: 1, DID: did, PWSNP: 1, ...pointer });
    this.#queue.push(PC_INV_DSC, { TYPE: 'PC_INV', G: 'PASID', DID: did, PASID: pasid });
    this.#queue.flush();
    return space;
  }

  /** Make the unit forget one page of an address space. */
  invalidate({ did, pasid }: Space, iova: number): void {
    if (pasid === RID_PASID) {
      this.#queue.push(IOTLB_INV_DSC, { TYPE: 'IOTLB_INV', G: 'SELECTIVE', DID: did, ADDR: iova });
    } else {
      this.#queue.push(P_IOTLB_INV_DSC, {
        TYPE: 'P_IOTLB_INV',
        G: 'PAGE',
        DID: did,
        PASID: pasid,
        ADDR: iova,
      });
    }
    this.#queue.flush();
  }

  /** Make the device forget one page of its own TLB; the unit's must have forgotten it before. */
  invalidateDevice(rid: number, { pasid }: Space, iova: number): void {
    if (pasid === RID_PASID) {
      this.#queue.push(DEV_TLB_INV_DSC, { TYPE: 'DEV_TLB_INV', SID: rid, ADDR: iova });
    } else {
      const request = { TYPE: 'P_DEV_TLB_INV' as const, SID: rid, PASID: pasid, ADDR: iova };
      this.#queue.push(P_DEV_TLB_INV_DSC, request);
    }
    this.#queue.flush();
  }

  #checkCapabilities(): void {
    const ecap = decode(ECAP, readRegister64(this.#platform, ECAP.offset));
    for (const needed of ['QI', 'SMTS', 'PASID', 'FSTS', 'SSTS', 'PRS', 'DT', 'SMPWCS'] as const) {
      if (ecap[needed] !== 1) throw new Error(`this driver needs a unit with ECAP.${needed}`);
    }
  }

  /** One command bit at a time, on top of those that are on (VT-d 11.4.4). */
  #command(command: 'QIE' | 'SRTP' | 'TE', status: 'QIES' | 'RTPS' | 'TES'): void {
    const { readRegister, writeRegister } = this.#platform;
    const kept = readRegister(GSTS.offset) & KEPT_COMMANDS;
    writeRegister(GCMD.offset, (kept | GCMD.fields[command].mask) >>> 0);
    const { mask } = GSTS.fields[status];
    poll(`GSTS.${status}`, () => (readRegister(GSTS.offset) & mask) !== 0);
  }

  /** A new root table: context cache, PASID cache, IOTLB, in this order. */
  #invalidateAll(): void {
    this.#queue.push(CC_INV_DSC, { TYPE: 'CC_INV', G: 'GLOBAL' });
    this.#queue.push(PC_INV_DSC, { TYPE: 'PC_INV', G: 'GLOBAL' });
    this.#queue.push(IOTLB_INV_DSC, { TYPE: 'IOTLB_INV', G: 'GLOBAL', DR: 1, DW: 1 });
    this.#queue.flush();
  }
}
