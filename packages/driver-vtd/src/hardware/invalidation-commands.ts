/**
 * What each invalidation command removes, whether it came through the queue or the registers.
 *
 * @spec VT-d 6.5.1 (registers), 6.5.2 (descriptors)
 */
import { hex } from '@iommukit/bits';
import { type BusPort, type InvalidationAnswer, NO_PASID } from '@iommukit/core';
import {
  CC_INV_DSC,
  DEV_TLB_INV_DSC,
  GRANULARITY,
  HPT_INV_DSC,
  IEC_GRANULARITY,
  IEC_INV_DSC,
  IOTLB_INV_DSC,
  P_DEV_TLB_INV_DSC,
  P_IOTLB_GRANULARITY,
  P_IOTLB_INV_DSC,
  PAGE_GRP_RESP_DSC,
  PC_GRANULARITY,
  PC_INV_DSC,
  DESCRIPTOR_TYPE as T,
} from '../spec/invalidation-descriptors.ts';
import { TTM } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import type { InterruptCache } from './interrupt-cache.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { LoggedCommand } from './sanitizer-findings.ts';

/** 4 KiB frame of the address in a descriptor's third and fourth dword. */
function frameOf(lo: number, hi: number): number {
  return (hi >>> 0) * 0x10_0000 + (lo >>> 12);
}

/** `sizeLg2` that stands for the whole address space. */
const WHOLE_SPACE_LG2 = 64;

/**
 * Region named by S and ADDR: the size follows from the lowest zero bit at or above bit 12.
 * @returns lg2 of bytes, 64 = everything
 */
export function deviceTlbSizeLg2(s: boolean, lo: number, hi: number): number {
  if (!s) return 12;
  for (let bit = 12; bit < 64; bit++) {
    const word = bit < 32 ? lo : hi;
    if (((word >>> (bit & 31)) & 1) === 0) return bit + 1;
  }
  return WHOLE_SPACE_LG2;
}

/** RID of the device that a device-TLB descriptor is for. */
export function deviceTlbSource(words: Int32Array, withPasid: boolean): number {
  return withPasid ? (words[0] as number) >>> 16 : (words[1] as number) & 0xffff;
}

const IOTLB = IOTLB_INV_DSC.fields;

/** A descriptor for the sanitizer's log: what it says, and whose domain it is about (-1 = all). */
function describeDescriptor(words: Int32Array, type: number, ttm: number): LoggedCommand {
  const name =
    Object.entries(T)
      .find(([, code]) => code === type)?.[0]
      ?.toLowerCase() ?? '';
  const granularity = ((words[0] as number) >>> 4) & 3;
  const did = (words[0] as number) >>> 16;
  const text = `${name} ${[...words.subarray(0, 4)].map((word) => hex(word >>> 0)).join(' ')}`;
  if (type === T.IEC_INV) return { text, did: -1, about: 'interrupts' };
  if (type === T.HPT_INV)
    return { text, did: granularity === GRANULARITY.GLOBAL ? -1 : did, about: 'permissions' };
  const everyDomain =
    (type === T.PC_INV && granularity === PC_GRANULARITY.GLOBAL) ||
    (type !== T.PC_INV && granularity === GRANULARITY.GLOBAL) ||
    (type === T.CC_INV && ttm !== TTM.LEGACY);
  const paged = type === T.IOTLB_INV || type === T.P_IOTLB_INV;
  const hint =
    paged && granularity === GRANULARITY.SELECTIVE && ((words[2] as number) & IOTLB.IH.mask) !== 0;
  return { text, did: everyDomain ? -1 : did, hint };
}

const CC = CC_INV_DSC.fields;

/** Executes invalidations on the caches and sends device-TLB invalidations down the bus. */
export class InvalidationCommands {
  /** Commands that removed nothing. */
  superfluous = 0;
  /** Entries removed. */
  removed = 0;
  /** Page group responses sent. */
  responses = 0;
  /** Told of every command. */
  watcher: Sanitizer | undefined;

  readonly #caches: Caches;
  readonly #interrupts: InterruptCache;
  readonly #features: Features;
  readonly #bus: BusPort;
  /** Bits of a domain id that the unit has; commands may hold anything in the others. */
  readonly #didMask: number;

  constructor(caches: Caches, interrupts: InterruptCache, features: Features, bus: BusPort) {
    this.#caches = caches;
    this.#interrupts = interrupts;
    this.#features = features;
    this.#bus = bus;
    this.#didMask = 2 ** features.didBits - 1;
  }

  #count(removed: number): true {
    if (removed === 0) this.superfluous++;
    this.removed += removed;
    return true;
  }

  /**
   * Execute a validated descriptor other than wait and device-TLB.
   * @returns false when a field holds an undefined value
   */
  execute(words: Int32Array, type: number, ttm: number): boolean {
    if (this.watcher === undefined || type === T.PAGE_GRP_RESP) return this.#run(words, type, ttm);
    return this.watched(describeDescriptor(words, type, ttm), () => this.#run(words, type, ttm));
  }

  /** Run a command with the sanitizer looking on. */
  watched(command: LoggedCommand, run: () => boolean): boolean {
    const { watcher } = this;
    if (watcher === undefined) return run();
    watcher.commandStarts(command);
    const done = run();
    watcher.commandDone(command);
    return done;
  }

  /** A side effect of GCMD, not a command of software: every cache is emptied. */
  invalidateAll(text: string): void {
    this.watched({ text, did: -1, implicit: true }, () => {
      this.#caches.invalidateAll();
      return true;
    });
  }

  #run(words: Int32Array, type: number, ttm: number): boolean {
    if (type === T.CC_INV) return this.#contextDescriptor(words, ttm);
    if (type === T.IOTLB_INV) return this.#iotlbDescriptor(words);
    if (type === T.P_IOTLB_INV) return this.#pasidIotlbDescriptor(words);
    if (type === T.PC_INV) return this.#pasidCacheDescriptor(words);
    if (type === T.HPT_INV) return this.#permissionDescriptor(words);
    if (type === T.IEC_INV) return this.#interruptDescriptor(words);
    if (type === T.PAGE_GRP_RESP) this.#pageGroupResponse(words);
    return true;
  }

  #contextDescriptor(words: Int32Array, ttm: number): boolean {
    const lo = words[0] as number;
    const hi = words[1] as number;
    const granularity = (lo & CC.G.mask) >>> CC.G.shift;
    const did = lo >>> CC.DID.shift;
    return this.context(granularity, did, hi & 0xffff, (hi >>> 16) & 3, ttm);
  }

  /** Context-cache invalidation; in scalable mode a domain is everything and a DID is ignored. */
  context(granularity: number, did: number, sid: number, functionMask: number, ttm: number) {
    const cache = this.#caches.context;
    const scalable = ttm !== TTM.LEGACY;
    const own = did & this.#didMask;
    if (granularity === GRANULARITY.GLOBAL) return this.#count(cache.invalidateAll());
    if (granularity === GRANULARITY.DOMAIN)
      return this.#count(scalable ? cache.invalidateAll() : cache.invalidateDomain(own));
    if (granularity !== GRANULARITY.SELECTIVE) return false;
    return this.#count(cache.invalidateDevice(sid, functionMask, scalable ? -1 : own));
  }

  #iotlbDescriptor(words: Int32Array): boolean {
    const lo = words[0] as number;
    const granularity = (lo & IOTLB.G.mask) >>> IOTLB.G.shift;
    const addressMask = (words[2] as number) & IOTLB.AM.mask;
    const pfn = frameOf(words[2] as number, words[3] as number);
    return this.iotlb(granularity, lo >>> IOTLB.DID.shift, pfn, addressMask);
  }

  /** IOTLB invalidation; false when the granularity or the address mask is not supported. */
  iotlb(granularity: number, did: number, pfn: number, addressMask: number): boolean {
    const { iotlb } = this.#caches;
    const { pageSelective, mamv, mgawBits } = this.#features;
    const own = did & this.#didMask;
    if (granularity === GRANULARITY.GLOBAL) return this.#count(iotlb.invalidateAll());
    if (granularity === GRANULARITY.DOMAIN) return this.#count(iotlb.invalidateDomain(own));
    if (granularity !== GRANULARITY.SELECTIVE || !pageSelective || addressMask > mamv) return false;
    return this.#count(iotlb.invalidatePages(own, pfn % 2 ** (mgawBits - 12), addressMask));
  }

  #pasidIotlbDescriptor(words: Int32Array): boolean {
    const lo = words[0] as number;
    const granularity = (lo & P_IOTLB_INV_DSC.fields.G.mask) >>> P_IOTLB_INV_DSC.fields.G.shift;
    const did = (lo >>> 16) & this.#didMask;
    const pasid = (words[1] as number) & 0xf_ffff;
    if (granularity === P_IOTLB_GRANULARITY.PASID)
      return this.#count(this.#caches.iotlb.invalidatePasid(did, pasid));
    if (granularity !== P_IOTLB_GRANULARITY.PAGE) return false;
    const pfn = frameOf(words[2] as number, words[3] as number);
    return this.pasidPages(did, pasid, pfn, (words[2] as number) & 0x3f);
  }

  /** P_IOTLB page-selective. */
  pasidPages(did: number, pasid: number, pfn: number, addressMask: number): true {
    const { iotlb } = this.#caches;
    return this.#count(iotlb.invalidatePasidPages(did, pasid, pfn, addressMask));
  }

  #pasidCacheDescriptor(words: Int32Array): boolean {
    const lo = words[0] as number;
    const granularity = (lo & PC_INV_DSC.fields.G.mask) >>> PC_INV_DSC.fields.G.shift;
    const did = (lo >>> 16) & this.#didMask;
    const cache = this.#caches.pasid;
    if (granularity === PC_GRANULARITY.GLOBAL) return this.#count(cache.invalidateAll());
    if (granularity === PC_GRANULARITY.DOMAIN) return this.#count(cache.invalidateDomain(did));
    if (granularity !== PC_GRANULARITY.PASID) return false;
    return this.#count(cache.invalidatePasid(did, (words[1] as number) & 0xf_ffff));
  }

  #permissionDescriptor(words: Int32Array): boolean {
    const { G, AM, IH } = HPT_INV_DSC.fields;
    const lo = words[0] as number;
    const cache = this.#caches.hostPermission;
    const granularity = (lo & G.mask) >>> G.shift;
    if (granularity === GRANULARITY.GLOBAL) return this.#count(cache.invalidateAll());
    const paged = granularity === GRANULARITY.SELECTIVE;
    if (!paged && granularity !== GRANULARITY.DOMAIN) return false;
    const low = words[2] as number;
    const pages = 2 ** (low & AM.mask);
    const pfn = frameOf(low, words[3] as number) % 2 ** (this.#features.hawBits - 12);
    const firstPfn = paged ? pfn - (pfn % pages) : 0;
    return this.#count(
      cache.invalidate({
        topLevel: ((low & IH.mask) >>> IH.shift) + 1,
        did: (lo >>> 16) & this.#didMask,
        firstPfn,
        lastPfn: paged ? firstPfn + pages - 1 : Number.POSITIVE_INFINITY,
      }),
    );
  }

  #interruptDescriptor(words: Int32Array): boolean {
    const { G, IM, IIDX } = IEC_INV_DSC.fields;
    const lo = words[0] as number;
    if ((lo & G.mask) >>> G.shift === IEC_GRANULARITY.GLOBAL)
      return this.#count(this.#interrupts.invalidateAll());
    const count = 2 ** ((lo & IM.mask) >>> IM.shift);
    const index = (words[1] as number) & IIDX.mask;
    return this.#count(this.#interrupts.invalidate(index - (index % count), count));
  }

  /** A side effect of GCMD: the interrupt entry cache is emptied. */
  invalidateInterrupts(text: string): void {
    this.watched({ text, did: -1, about: 'interrupts', implicit: true }, () => {
      this.#interrupts.invalidateAll();
      return true;
    });
  }

  /** Send a device-TLB invalidation to the device of {@link deviceTlbSource}. */
  deviceTlb(words: Int32Array, withPasid: boolean): InvalidationAnswer {
    const [w1, w2, w3] = [words[1], words[2], words[3]] as [number, number, number];
    const sBit = withPasid ? P_DEV_TLB_INV_DSC.fields.S.mask : DEV_TLB_INV_DSC.fields.S.mask;
    const sid = deviceTlbSource(words, withPasid);
    const global = withPasid && (w2 & P_DEV_TLB_INV_DSC.fields.GI.mask) !== 0;
    // GI=1 is about every PASID: the one in the descriptor does not matter.
    const pasid = withPasid && !global ? w1 & 0xf_ffff : NO_PASID;
    const sizeLg2 = deviceTlbSizeLg2((w2 & sBit) !== 0, w2, w3);
    const frame = frameOf(w2, w3);
    const first = sizeLg2 >= 64 ? 0 : frame - (frame % 2 ** (sizeLg2 - 12));
    return this.#bus.invalidateDeviceTlb(sid, pasid, first, sizeLg2, global);
  }

  #pageGroupResponse(words: Int32Array): void {
    const F = PAGE_GRP_RESP_DSC.fields;
    const lo = words[0] as number;
    this.responses++;
    this.#bus.deliverPageResponse({
      rid: lo >>> F.RID.shift,
      pasid: (lo & F.PP.mask) !== 0 ? (words[1] as number) & 0xf_ffff : -1,
      prgi: ((words[2] as number) & F.PRGI.mask) >>> F.PRGI.shift,
      code: (lo & F.RC.mask) >>> F.RC.shift,
    });
  }
}
