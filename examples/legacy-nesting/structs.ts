/** Structs that the program passes by address, little endian: fields as [bytes, value]. */

type Field = readonly [bytes: 1 | 2 | 4 | 8, value: number | bigint];

const struct = (...fields: readonly Field[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 8) view.setBigUint64(at, BigInt(value), true);
    else if (bytes === 4) view.setUint32(at, Number(value), true);
    else if (bytes === 2) view.setUint16(at, Number(value), true);
    else view.setUint8(at, Number(value));
    at += bytes;
  }
  return new Uint8Array(view.buffer);
};

/** ioctl numbers of VFIO, and of the series "expose virtual Shared Virtual Addressing", v4 to v7. */
export const VFIO = {
  CHECK_EXTENSION: 0x3b65,
  SET_IOMMU: 0x3b66,
  GROUP_SET_CONTAINER: 0x3b68,
  IOMMU_GET_INFO: 0x3b70,
  IOMMU_MAP_DMA: 0x3b71,
  IOMMU_PASID_REQUEST: 0x3b76,
  IOMMU_NESTING_OP: 0x3b77,
  /** The IOMMU type. */
  TYPE1_NESTING_IOMMU: 6,
} as const;

/** `argsz` and room for capabilities. */
export const infoRequest = (): Uint8Array => {
  const bytes = new Uint8Array(512);
  bytes.set(struct([4, bytes.length]));
  return bytes;
};

/** The capability with an id in what GET_INFO answered. */
export const capability = (info: Uint8Array, id: number): DataView | undefined => {
  const view = new DataView(info.buffer, info.byteOffset, info.length);
  let at = view.getUint32(16, true);
  while (at !== 0 && view.getUint16(at, true) !== id) at = view.getUint32(at + 4, true);
  return at === 0 ? undefined : new DataView(info.buffer, info.byteOffset + at);
};

/** Map `size` bytes of the program at an address of the device; flags READ | WRITE. */
export const mapDma = (vaddr: number, iova: number, size: number): Uint8Array =>
  struct([4, 32], [4, 3], [8, vaddr], [8, iova], [8, size]);

/** Ask for a PASID of the range. */
export const pasidAlloc = (min: number, max: number): Uint8Array =>
  struct([4, 16], [4, 1], [4, min], [4, max]);

const nestingOp = (op: number, data: Uint8Array): Uint8Array =>
  Uint8Array.of(...struct([4, 8 + data.length], [4, op]), ...data);

/** `iommu_gpasid_bind_data`: version 1, format INTEL_VTD, 48-bit table at a guest address. */
const bindData = (tableGpa: number, pasid: number): Uint8Array =>
  struct(
    ...([
      [4, 72],
      [4, 1],
      [4, 1],
      [4, 48],
    ] as const),
    ...([
      [8, 0],
      [8, tableGpa],
      [8, pasid],
      [8, 0],
    ] as const),
    ...([
      [8, 0],
      [8, 0],
      [8, 0],
    ] as const),
  );

/** BIND_PGTBL: a table of the guest becomes the first stage of a PASID. */
export const bindPgtbl = (tableGpa: number, pasid: number): Uint8Array =>
  nestingOp(0, bindData(tableGpa, pasid));

/** UNBIND_PGTBL. */
export const unbindPgtbl = (tableGpa: number, pasid: number): Uint8Array =>
  nestingOp(1, bindData(tableGpa, pasid));

/** CACHE_INVLD: the IOTLB's entry of one page of a PASID (granularity ADDR). */
export const cacheInvalidate = (pasid: number, address: number): Uint8Array =>
  nestingOp(
    2,
    struct(
      ...([
        [4, 56],
        [4, 1],
        [1, 1],
        [1, 2],
        [2, 0],
        [4, 0],
      ] as const),
      ...([
        [4, 1],
        [4, 0],
        [8, pasid],
        [8, address],
        [8, 4096],
        [8, 1],
      ] as const),
    ),
  );
