/**
 * Test operations that look into mock hardware or make it act.
 * @module
 */
import {
  copyFromUser,
  type HwptPaging,
  PAGE_BYTES,
  type Process,
  type UserPointer,
} from '@iommukit/core';
import { MOCK_TYPE } from '../mock/constants.ts';
import { MockNestedDomain } from '../mock/nested-domain.ts';
import { MockPagingDomain } from '../mock/paging-domain.ts';
import { MockUnit } from '../mock/unit.ts';
import type { TestCommand } from './command.ts';

const EFAULT = -14;
const U64_END = 1n << 64n;
/** `INT_MAX`: the largest buffer that `kvzalloc` hands out. */
const MAX_BITMAP_BYTES = 2 ** 31 - 1;
const CHUNK_BYTES = 2 ** 16;

const mockDomainOf = (
  command: TestCommand,
): { readonly hwpt: HwptPaging; readonly domain: MockPagingDomain } => {
  const { call } = command;
  const hwpt = call.context.find(call.op, command.id, 'HWPT_PAGING');
  if (hwpt.domain instanceof MockPagingDomain) return { hwpt, domain: hwpt.domain };
  throw command.refuse('EINVAL', 'mock-hwpt', 'not a HWPT of the mock', command.id);
};

/** Frame behind user memory as a reader sees it; a page never written has none (-1). */
const frameAt = (command: TestCommand, va: bigint): number => {
  const frame = command.process.frameAt(va);
  if (frame !== EFAULT) return frame;
  throw command.refuse('EFAULT', 'user-memory', 'nothing is mapped there', va);
};

/** MD_CHECK_MAP: does every step of an IOVA range point to the page behind user memory? */
export const checkMap = (command: TestCommand): void => {
  const { domain } = mockDomainOf(command);
  const iova = command.u64(16);
  const length = command.u64(24);
  const va = command.u64(32);
  const stepBytes = 1n << BigInt(domain.granuleLg2);
  if ((iova | length | va) % stepBytes !== 0n || va + length >= U64_END) {
    throw command.refuse('EINVAL', 'mock-alignment', `multiples of ${stepBytes} only`, iova);
  }
  for (let at = 0n; at < length; at += stepBytes) {
    const frame = frameAt(command, va + at);
    const expected = frame * PAGE_BYTES + Number((va + at) % 4096n);
    if (addressAt(domain, iova + at) === expected && frame >= 0) continue;
    throw command.refuse('EINVAL', 'mock-translation', 'another page is mapped there', iova + at);
  }
};

const addressAt = (domain: MockPagingDomain, iova: bigint): number => {
  const granuleLg2 = BigInt(domain.granuleLg2);
  const frame = domain.iovaToFrame(Number(iova >> granuleLg2));
  return frame < 0 ? -1 : frame * 2 ** domain.granuleLg2 + Number(iova % (1n << granuleLg2));
};

/** MD_CHECK_REFS: is every page pinned exactly this often? */
export const checkRefs = (command: TestCommand): void => {
  const length = command.u64(16);
  const va = command.u64(24);
  const refs = command.u32(32);
  if ((length | va) % 4096n !== 0n || va + length >= U64_END) {
    throw command.refuse('EINVAL', 'mock-alignment', 'whole pages only', va);
  }
  const { pages } = command.process.memory;
  for (let at = 0n; at < length; at += 4096n) {
    const frame = frameAt(command, va + at);
    // Pins of a large page are counted at its head: it is not looked at.
    if (command.process.isHugetlb(va + at)) continue;
    if ((frame < 0 ? 0 : pages.pinCount(frame)) === refs) continue;
    throw command.refuse('EIO', 'mock-pins', 'the page has another number of pins', va + at);
  }
};

/** MD_CHECK_IOTLB: does an entry of a nested domain's IOTLB hold this? */
export const checkIotlb = (command: TestCommand): void => {
  const { call } = command;
  const { domain } = call.context.find(call.op, command.id, 'HWPT_NESTED');
  const slot = command.u32(16);
  if (domain instanceof MockNestedDomain && domain.iotlb[slot] === command.u32(20)) return;
  throw command.refuse('EINVAL', 'mock-iotlb', 'the entry holds something else', slot);
};

/** DEV_CHECK_CACHE: does an entry of a device's cache hold this? */
export const checkDeviceCache = (command: TestCommand): void => {
  const { call } = command;
  const { unit, device } = call.context.find(call.op, command.id, 'DEVICE');
  const slot = command.u32(16);
  if (unit instanceof MockUnit && unit.stateOf(device).cache[slot] === command.u32(20)) return;
  throw command.refuse('EINVAL', 'mock-cache', 'the entry holds something else', slot);
};

/** DIRTY: write to pages, as a device would, where a bitmap has ones. */
export const setDirty = (command: TestCommand): void => {
  const iova = command.u64(24);
  const length = command.u64(32);
  const pageSize = command.u64(40);
  const pointer = command.u64(48);
  if (pageSize === 0n || length === 0n || iova % pageSize || length % pageSize || pointer === 0n) {
    throw command.refuse('EINVAL', 'mock-dirty-range', 'no whole pages', iova);
  }
  const { domain } = mockDomainOf(command);
  if (!domain.dirty?.enabled) {
    throw command.refuse('EINVAL', 'mock-dirty', 'dirty tracking is off', command.id);
  }
  const count = length / pageSize;
  checkBitmapSize(command, (count + 7n) / 8n);
  // All of it is read before the first page becomes dirty.
  for (const _ of bitmapChunks(command, pointer, Number(count)));
  let written = 0;
  for (const { firstBit, bits, count: here } of bitmapChunks(command, pointer, Number(count))) {
    for (let i = 0; i < here; i++) {
      if (((bits[i >>> 3] as number) & (1 << (i & 7))) === 0) continue;
      const at = iova + BigInt(firstBit + i) * pageSize;
      domain.setDirty(Number(at >> BigInt(domain.granuleLg2)));
      written++;
    }
  }
  command.set(56, written);
};

/** The kernel's copy of the bitmap must fit into what one allocation, and memory, can be. */
const checkBitmapSize = (command: TestCommand, bytes: bigint): void => {
  const { call } = command;
  const freeBytes = call.process.memory.freePageCount * PAGE_BYTES;
  if (bytes > BigInt(Math.min(MAX_BITMAP_BYTES, freeBytes))) {
    throw command.refuse('ENOMEM', 'mock-dirty-bits', 'no memory for so large a bitmap', bytes);
  }
  call.checkAllocation('the bitmap');
};

/** A bitmap of `count` bits, piece by piece; `bits` is reused. */
function* bitmapChunks(command: TestCommand, pointer: UserPointer, count: number) {
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, Math.ceil(count / 8)));
  for (let firstBit = 0; firstBit < count; firstBit += 8 * CHUNK_BYTES) {
    const here = Math.min(8 * CHUNK_BYTES, count - firstBit);
    const bits = buffer.subarray(0, Math.ceil(here / 8));
    if (!copyFromUser(command.process as Process, pointer, firstBit / 8, bits)) {
      throw command.refuse('EFAULT', 'user-memory', 'the bitmap cannot be read');
    }
    yield { firstBit, bits, count: here };
  }
}

/** TRIGGER_IOPF: a page request of one page, complete in itself. */
export const triggerIopf = (command: TestCommand): void => {
  const { call } = command;
  const { unit, device } = call.context.find(call.op, command.u32(16), 'DEVICE');
  const address = command.u64(32);
  const pasid = command.u32(20);
  const grpid = command.u32(24);
  if (!(unit instanceof MockUnit)) return;
  const fault = {
    pasid: pasid === 0 ? -1 : pasid,
    grpid,
    perm: command.u32(28),
    addressPfn: Number(address >> 12n),
    address,
    last: true,
  };
  if (!unit.host.reportPageFault(device, fault)) {
    unit.pri.respond(device, fault.pasid, grpid, 1);
  }
};

/** TRIGGER_VEVENT: an event of a device for the guest of the vIOMMU it is attached through. */
export const triggerVevent = (command: TestCommand): void => {
  const { call } = command;
  const id = command.u32(16);
  const { unit, device } = call.context.find(call.op, id, 'DEVICE');
  const state = unit instanceof MockUnit ? unit.stateOf(device) : undefined;
  if (!state?.viommu || state.virtId === 0n) {
    throw command.refuse('ENOENT', 'mock-viommu', 'attached through no vIOMMU', id);
  }
  const event = new Uint8Array(4);
  new DataView(event.buffer).setUint32(0, Number(state.virtId & 0xffff_ffffn), true);
  if (state.viommu.events.report(MOCK_TYPE.VEVENTQ, event)) return;
  throw command.refuse('EOPNOTSUPP', 'mock-veventq', 'the vIOMMU has no queue of that type');
};

/** ADD_RESERVED: reserve IOVAs of an IOAS. */
export const addReserved = (command: TestCommand): void => {
  const { call } = command;
  const start = command.u64(16);
  const length = command.u64(24);
  if (length === 0n) throw command.refuse('EINVAL', 'length', 'an empty range', length);
  if (start + length > U64_END) {
    throw command.refuse('EOVERFLOW', 'iova-wrap', 'the range passes 2^64', start);
  }
  const ioas = call.context.find(call.op, command.id, 'IOAS');
  ioas.reserve(call.op, start, start + length - 1n, 'reserved by a test');
};
