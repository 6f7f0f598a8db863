/** The uAPI structs of VT-d, byte for byte as computed. */
import { afterEach, describe, expect, it } from 'vitest';
import { InvalidationQueue } from '../../src/host/invalidation-queue.ts';
import type { VtdIommuUnit } from '../../src/index.ts';
import { vectors } from '../vectors.ts';
import { attach, bench, blob, HWPT, nest, paging, SVA_DEVICE, userArray } from './fixture.ts';

const bytesOf = (name: string): Uint8Array =>
  Uint8Array.from(Buffer.from(vectors.uapi[name] as string, 'hex'));

describe('struct iommu_hw_info_vtd', () => {
  it('hw_info', () => {
    const { unit, device } = bench();
    const { type, data } = unit.hwInfo(device, 1);
    expect([type, Buffer.from(data).toString('hex')]).toEqual([1, vectors.uapi['hw_info']]);
  });
});

describe('struct iommu_hwpt_vtd_s1', () => {
  const PASID = 0x77;
  it.each([
    ['hwpt_vtd_s1_sre_48', { FSPTPTR: 0x30000, FSPM: 0, SRE: 1, WPE: 0, EAFE: 0 }],
    ['hwpt_vtd_s1_57', { FSPTPTR: 0x30000, FSPM: 1, SRE: 1, WPE: 1, EAFE: 1 }],
  ])('%s', (name, expected) => {
    const at = bench({}, [SVA_DEVICE]);
    const parent = paging(at, HWPT.NEST_PARENT);
    const nested = at.unit.nesting?.allocNested(at.device, parent, 0, blob(1, bytesOf(name)));
    if (!nested) throw new Error('no nesting');
    attach(at, nested, PASID);
    const { rid } = at.device;
    const { steps } = (at.unit as VtdIommuUnit).hardware.explain({ rid, pasid: PASID, iova: 0 });
    const entry = steps.find((step) => step.kind === 'read' && step.structure === 'PASID_ENTRY');
    if (entry?.kind !== 'read') throw new Error('no PASID entry was read');
    const fields = Object.fromEntries(entry.fields.map(({ name: key, value }) => [key, value]));
    expect(fields).toMatchObject({ PGTT: 3, ...expected });
  });
});

describe('struct iommu_hwpt_vtd_s1_invalidate', () => {
  const { push } = InvalidationQueue.prototype;
  afterEach(() => {
    InvalidationQueue.prototype.push = push;
  });

  it.each([
    ['inv_all', [0x0005_0002_0026n, 0n]],
    ['inv_3pages_leaf', [0x0005_0002_0036n, 0x7f12_3456_0044n]],
  ])('%s', (name, descriptor) => {
    const at = bench({}, [{ rid: '00:05.0', pasidBits: 20 }]);
    const { nested } = nest(at, 5);
    const sent: bigint[][] = [];
    InvalidationQueue.prototype.push = function (...words) {
      const [w0, w1, w2, w3] = words.map((word) => BigInt(word >>> 0)) as [
        bigint,
        bigint,
        bigint,
        bigint,
      ];
      sent.push([(w1 << 32n) | w0, (w3 << 32n) | w2]);
      push.apply(this, words);
    };
    const entries = userArray(0, [bytesOf(name)]);
    nested.invalidate?.(entries);
    expect(sent).toEqual([descriptor]);
    expect(entries.done).toBe(1);
  });
});
