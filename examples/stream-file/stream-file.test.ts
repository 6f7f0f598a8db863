import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { tryBadDma } from './bad-dma.ts';
import { explainTranslation } from './explained.ts';
import type { Medium } from './nvme-device.ts';
import { BLOCK_BYTES } from './nvme-layout.ts';
import { createReport } from './report.ts';
import { streamFile } from './stream.ts';
import { resultText, setupText } from './text-report.ts';
import { createVmm } from './vmm.ts';

const bytesOf = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 9)) & 0xff);

const mediumOf = (file: Uint8Array, corruptAt = -1): Medium => ({
  blocks: Math.ceil(file.length / BLOCK_BYTES),
  read(lba, target) {
    const start = lba * BLOCK_BYTES;
    target.fill(0);
    target.set(file.subarray(start, start + target.length));
    if (corruptAt >= start && corruptAt < start + target.length) {
      target[corruptAt - start] = (target[corruptAt - start] ?? 0) ^ 1;
    }
  },
});

const run = (length: number, corruptAt = -1) => {
  const file = bytesOf(length);
  const vmm = createVmm(mediumOf(file, corruptAt), 16);
  const stream = streamFile(vmm, length, () => {});
  const explained = explainTranslation(vmm);
  const badDma = tryBadDma(vmm);
  const report = createReport({
    vmm,
    file: 'file',
    fileBytes: length,
    guestMib: 16,
    stream,
    explained,
    badDma,
    fileSha256: createHash('sha256').update(file).digest('hex'),
  });
  return { vmm, report };
};

describe('streaming a file through nested VT-d translation', () => {
  test.each([0, 1, 4097, 1_000_003, 9_000_000])(
    '%i bytes arrive, whatever fits in RAM',
    (length) => {
      const { report } = run(length);
      expect(report).toMatchObject({
        ok: true,
        sha256: { match: true },
        stream: { bytes: length },
      });
    },
  );

  test('pages that are absent at first are requested, served and translated', () => {
    const { report } = run(1_000_003);
    expect(report.stream.pageRequests).toBeGreaterThan(0);
    expect(report.hardware.translations).toBeGreaterThan(1_000_003 / 4096);
    expect(report.hardware.iotlbHits).toBeGreaterThan(0);
  });

  test('one flipped bit on the way is noticed', () => {
    expect(run(100_000, 50_000).report).toMatchObject({ ok: false, sha256: { match: false } });
  });

  test('a translation is explained down to the host physical address', () => {
    const { vmm, report } = run(4096);
    const { steps, hpa } = report.explained;
    const structures = steps.map(({ what }) => what);
    expect(structures.slice(0, 4)).toEqual([
      expect.stringContaining('root entry'),
      expect.stringContaining('context entry'),
      expect.stringContaining('PASID directory entry'),
      expect.stringContaining('PASID table entry'),
    ]);
    expect(structures.filter((what) => what.startsWith('first stage'))).toHaveLength(4);
    expect(structures.filter((what) => what.startsWith('second stage'))).toHaveLength(20);
    const pa = Number(hpa);
    const arrived = vmm.machine.memory.view(pa, 4096);
    expect(arrived).toHaveLength(4096);
  });

  test('a DMA beyond guest RAM is stopped by stage 2 and recorded (SSS.2)', () => {
    const { report } = run(1);
    expect(report.badDma).toMatchObject({
      bytesWritten: 0,
      stopped: true,
      fault: { reason: '0x79', fields: { SID: '0x20', PV: '0x2a', PP: '0x1' } },
    });
  });

  test('the text says what the data says', () => {
    const { report } = run(100_000);
    expect(setupText(report)).toContain('IOMMU_HWPT_ALLOC');
    const text = resultText(report);
    expect(text).toContain(report.sha256.guest);
    expect(text).toContain('the hashes match');
    expect(
      resultText({ ...report, ok: false, badDma: { ...report.badDma, stopped: false } }),
    ).toContain('NOT STOPPED');
  });
});
