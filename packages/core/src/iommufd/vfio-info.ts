/**
 * `VFIO_IOMMU_GET_INFO` with its chain of capabilities.
 *
 * @linux drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_iommu_get_info
 * @module
 */
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import type { Call } from './call.ts';
import type { Ioas } from './ioas.ts';

const INFO_BYTES = 24;
const MIN_BYTES = 16;
const FLAGS_PGSIZES_AND_CAPS = 3;
const CAP_IOVA_RANGE = 1;
const CAP_DMA_AVAIL = 3;
const CAP_VERSION = 1;
const NO_LIMIT = 0xffff_ffff;
const CAP_HEADER_BYTES = 16;
/** The capability without the padding in front of the next one, which is left alone. */
const CAP_DMA_AVAIL_BYTES = 12;
const RANGE_BYTES = 16;
const PAGE_BYTES = 4096n;
const U64_MAX = (1n << 64n) - 1n;

/** Page sizes that every domain has, as a bitmap of bytes; at least whole pages. */
const pageSizes = ({ hwpts, iovaAlignment }: Ioas): bigint => {
  let sizes = U64_MAX;
  for (const { domain } of hwpts) {
    sizes &= domain.pageSizesLg2.reduce((bits, lg2) => bits | (1n << BigInt(lg2)), 0n);
  }
  const smaller = sizes % PAGE_BYTES;
  if (smaller !== 0n) sizes = (sizes - smaller) | PAGE_BYTES;
  return sizes > BigInt(iovaAlignment) ? sizes : BigInt(iovaAlignment);
};

/** A part of the answer: where it stands, and its bytes. */
interface Part {
  readonly at: number;
  readonly bytes: Uint8Array;
}

const capHeader = (id: number, next: number): Uint8Array => {
  const bytes = new Uint8Array(CAP_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id, true);
  view.setUint16(2, CAP_VERSION, true);
  view.setUint32(4, next, true);
  return bytes;
};

/** Parts of the capabilities that fit into `argsz` bytes. */
const capabilityParts = (ioas: Ioas, argsz: number): { parts: Part[]; total: number } => {
  const ranges = ioas.iovaRanges();
  const availAt = INFO_BYTES;
  const rangesAt = availAt + CAP_HEADER_BYTES;
  const total = rangesAt + CAP_HEADER_BYTES + RANGE_BYTES * ranges.length;
  const parts: Part[] = [];
  if (argsz >= availAt + CAP_DMA_AVAIL_BYTES) {
    const bytes = capHeader(CAP_DMA_AVAIL, argsz >= rangesAt ? rangesAt : 0);
    new DataView(bytes.buffer).setUint32(8, NO_LIMIT, true);
    parts.push({ at: availAt, bytes: bytes.subarray(0, CAP_DMA_AVAIL_BYTES) });
  }
  ranges.forEach(({ start, last }, index) => {
    const at = rangesAt + CAP_HEADER_BYTES + RANGE_BYTES * index;
    if (argsz < at + RANGE_BYTES) return;
    const bytes = new Uint8Array(RANGE_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(start), true);
    view.setBigUint64(8, BigInt(last), true);
    parts.push({ at, bytes });
  });
  if (argsz >= total) {
    const bytes = capHeader(CAP_IOVA_RANGE, 0);
    new DataView(bytes.buffer).setUint32(8, ranges.length, true);
    parts.push({ at: rangesAt, bytes });
  }
  return { parts, total };
};

/** `VFIO_IOMMU_GET_INFO`. */
export const vfioGetInfo = (call: Call, argument: number | bigint): number => {
  const fault = () => call.refuse('EFAULT', 'user-memory', 'the struct cannot be accessed');
  const info = new Uint8Array(INFO_BYTES);
  if (!copyFromUser(call.process, argument, 0, info.subarray(0, MIN_BYTES))) throw fault();
  const view = new DataView(info.buffer);
  const argsz = view.getUint32(0, true);
  if (argsz < MIN_BYTES) {
    throw call.refuse('EINVAL', 'vfio-arguments', `argsz ${argsz} is too small`, {
      value: argsz,
      accepted: `at least ${MIN_BYTES}`,
    });
  }
  const ioas = call.context.compatIoas(call.op);
  const { parts, total } = capabilityParts(ioas, argsz);
  view.setUint32(0, total, true);
  view.setUint32(4, FLAGS_PGSIZES_AND_CAPS, true);
  view.setBigUint64(8, pageSizes(ioas), true);
  view.setUint32(16, argsz >= total ? INFO_BYTES : 0, true);
  parts.push({ at: 0, bytes: info.subarray(0, Math.min(argsz, INFO_BYTES)) });
  for (const { at, bytes } of parts) {
    if (!copyToUser(call.process, argument, at, bytes)) throw fault();
  }
  return 0;
};
