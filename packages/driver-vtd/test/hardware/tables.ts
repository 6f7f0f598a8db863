/** Tables that tests share, as words by byte address. Requester 20h (0:4.0). */

type Words = Record<number, bigint>;

export const RID = 0x20;
export const PASID = 0x12345;
/** RTADDR values. */
export const LEGACY = 0x1000n;
export const SCALABLE = 0x3400n;
/** An address where nothing answers, below the host address width. */
export const HOLE = 0x80_0000_0000n;
export const IOVA = 0x8000_5000n;
export const VA = 0x7f12_3456_7000n;

const PWSNP = 0x80_0000n;

/** Root and context for legacy mode, with a 4-level table at 10000h. */
export const legacy = (context = 0x1_0001n, high = 0x502n): Words => ({
  4096: 0x2001n,
  8704: context,
  8712: high,
});

/** Second stage: 80005000h -> 44000000h, 80200000h -> 2 MiB at 48000000h. */
export const secondStage = (leaf = 0x4400_0003n): Words => ({
  65536: 0x1_1003n,
  69648: 0x1_2003n,
  73728: 0x1_3003n,
  73736: 0x4800_0083n,
  77864: leaf,
});

/** Root, context, directory of scalable mode: device TLB, PASID and page requests on. */
export const scalable = (context = 0x2_0e1dn, ridPasid = 0n): Words => ({
  12288: 0x4001n,
  12296: 0x5001n,
  17408: context,
  17416: ridPasid,
  131072: 0x7001n,
  140392: 0x9001n,
});

/** PASID entry of PASID 0 (without PASID) or 12345h. */
export const pasidEntry = (
  pasid: number,
  qw0: bigint,
  did = 7n,
  qw2 = 0n,
  flags = PWSNP,
): Words => {
  const base = pasid === 0 ? 0x7000 : 0x9140;
  return { [base]: qw0, [base + 8]: flags | did, [base + 16]: qw2 };
};

export const SS_ENTRY = 0x1_0089n;
export const FS_ENTRY = 0x41n;
export const NESTED_ENTRY = 0x1_00c9n;
export const PT_ENTRY = 0x109n;

/** First stage at 30000h: 7F1234567000h -> `leaf`. */
export const firstStage = (leaf = 0x5500_0007n): Words => ({
  198640: 0x3_1007n,
  201280: 0x3_2007n,
  208144: 0x3_3007n,
  211768: leaf,
});

/** Guest tables at GPA 30000h live at HPA 1_0003_0000h; GPA 40000000h.. -> 180000000h. */
export const nestedTables = (tableLeaf = 0x1_0000_0083n, pageLeaf = 0x1_8000_0083n): Words => ({
  65536: 0x1_1003n,
  69632: tableLeaf,
  69640: 0x1_2003n,
  73728: pageLeaf,
  4295165936: 0x3_1007n,
  4295168576: 0x3_2007n,
  4295175440: 0x3_3007n,
  4295179064: 0x4012_3007n,
});
