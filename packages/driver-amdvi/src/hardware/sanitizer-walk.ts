/**
 * Walks that use no cache, and how cached entries differ from them.
 */
import { NO_PASID } from '@iommukit/core';
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import { HOST_PTE, NEXT_LEVEL } from '../spec/host-table-entry.ts';
import { type Caches, DEVICE, DTE_INFO } from './caches.ts';
import { FOUND } from './device-table.ts';
import { codedSizeLg2, RIGHT } from './host-table-walker.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { Translator } from './translate.ts';
import { createTranslationRequest } from './translation-request.ts';

const DIRTY = 0x40;
const { NEXT_LEVEL: NEXT } = HOST_PTE.fields;
const DTE_WORDS = 8;
const RIGHTS_OF_REQUESTS = RIGHT.R | RIGHT.W | RIGHT.X | RIGHT.USER;

/**
 * Whether a leaf counts as dirty although the copy at `pa` does not say so: of a page with a coded
 * size any of its copies does, and a write through a cached translation marks no second one.
 *
 * @spec AMD IOMMU 2.2.3 (page sizes by NextLevel 7)
 */
const isDirtyLeaf = (memory: HardwareMemory, pa: number): boolean => {
  const words = new Int32Array(2);
  if (!readDwords(memory, pa, words, 2)) return false;
  const [lo = 0, hi = 0] = words;
  if ((lo & NEXT.mask) >>> NEXT.shift !== NEXT_LEVEL.SIZED_LEAF) return false;
  const copies = 2 ** ((codedSizeLg2(lo, hi) - 12) % 9);
  const first = pa - (pa % (copies * 8));
  for (let copy = 0; copy < copies; copy++) {
    if (readDwords(memory, first + copy * 8, words, 2) && ((words[0] as number) & DIRTY) !== 0) {
      return true;
    }
  }
  return false;
};

/** How an entry is stale. */
export interface Staleness {
  readonly kind: 'stale-translation' | 'stale-dirty';
  /** Event code of the fresh walk, 0 = it succeeds. */
  readonly code: number;
}

/** Walks beside a unit. */
export class FreshWalk {
  /** Where the result of the last walk stands. */
  readonly translator: Translator;
  readonly #request = createTranslationRequest();

  /** @param translator a dry translator that uses no cache */
  constructor(translator: Translator) {
    this.translator = translator;
  }

  /** Fresh walk; the result stands in the translator. @returns an event code, 0 = translated */
  walk(rid: number, pasid: number, pfn: number, need: number): number {
    const request = this.#request;
    request.rid = rid;
    request.pasid = pasid;
    request.pfn = pfn;
    request.offset = 0;
    request.need = need;
    request.write = (need & RIGHT.W) !== 0;
    return this.translator.resolve(request);
  }

  /** The fresh walk would set a dirty bit that the cached entry makes the unit skip. */
  owesDirty(): boolean {
    const { pending, memory } = this.translator;
    for (let at = 0; at < pending.count; at++) {
      const owed = ((pending.bits[at] as number) & DIRTY) !== 0;
      if (owed && !isDirtyLeaf(memory, pending.address[at] as number)) return true;
    }
    return false;
  }

  /**
   * How an IOTLB entry differs from a fresh walk with what it grants, for requests of a device.
   * Rights of the device table entry are not part of it: a device that may not write is no reason.
   */
  staleness(entry: IotlbEntry, rid: number): Staleness | undefined {
    const { iovaPfn, outPfn, permissions, dirtyKnown } = entry;
    const usable = dirtyKnown ? permissions : permissions & ~RIGHT.W;
    const need = usable & RIGHTS_OF_REQUESTS & ~this.#forbidden(rid);
    const pasid = this.#pasidOf(rid, entry.pasid);
    const code = this.walk(rid, pasid, iovaPfn, need & ~(pasid < 0 ? RIGHT.X : 0));
    if (code !== 0 || this.translator.pfn !== outPfn) return { kind: 'stale-translation', code };
    return this.owesDirty() ? { kind: 'stale-dirty', code } : undefined;
  }

  /** Rights that the device's own entry forbids. */
  #forbidden(rid: number): number {
    const { device } = this.translator;
    if (device.find(rid) !== FOUND.ENTRY) return 0;
    const info = device.words[device.at + DEVICE.INFO] as number;
    return ~info & (RIGHT.R | RIGHT.W);
  }

  /** Entries of PASID 0 may be of requests without one (GIoV). */
  #pasidOf(rid: number, tag: number): number {
    const { device } = this.translator;
    if (tag !== 0 || device.find(rid) !== FOUND.ENTRY) return tag;
    const info = device.words[device.at + DEVICE.INFO] as number;
    return (info & DTE_INFO.GUEST_ZERO) !== 0 ? NO_PASID : tag;
  }

  /** DomainID that a device has according to memory; -1 = no entry. */
  domainOf(rid: number): number {
    const { device } = this.translator;
    return device.find(rid) === FOUND.ENTRY ? device.domain : -1;
  }

  /** Whether a cached device table entry says what memory says. */
  isDeviceFresh(caches: Caches, rid: number): boolean {
    const at = caches.devices.lookup(rid, NO_PASID);
    const { device } = this.translator;
    if (device.find(rid) !== FOUND.ENTRY) return false;
    for (let word = 0; word < DTE_WORDS; word++) {
      if (caches.devices.words[at + word] !== device.words[device.at + word]) return false;
    }
    return true;
  }
}
