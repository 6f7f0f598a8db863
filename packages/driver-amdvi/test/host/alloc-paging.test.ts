/** `IOMMU_HWPT_ALLOC` over an IOAS, as amd_iommu_domain_alloc_paging_flags answers. */
import { describe, expect, it } from 'vitest';
import { attach, bench, codeOf, HWPT, map, paging, reach, stampedPage } from './fixture.ts';

const HOST_ONLY = 0x0012_40c0_0000_0840n;
const WITHOUT_HD = HOST_ONLY & ~(1n << 52n);
const FIVE_LEVELS = (HOST_ONLY & ~(3n << 10n)) | (1n << 10n);
const { NEST_PARENT, DIRTY_TRACKING, PASID } = HWPT;

describe('IOMMU_HWPT_ALLOC, flags and errnos', () => {
  it.each([
    ['no flag', HOST_ONLY, 0, 'no error'],
    ['DIRTY_TRACKING with HDSup', HOST_ONLY, DIRTY_TRACKING, 'no error'],
    ['DIRTY_TRACKING without HDSup', WITHOUT_HD, DIRTY_TRACKING, 'EOPNOTSUPP'],
    ['NEST_PARENT without GTSup', HOST_ONLY, NEST_PARENT, 'EOPNOTSUPP'],
    ['PASID without GTSup', HOST_ONLY, PASID, 'EOPNOTSUPP'],
    ['PASID with DIRTY_TRACKING', HOST_ONLY, PASID | DIRTY_TRACKING, 'EOPNOTSUPP'],
    ['PASID with NEST_PARENT', HOST_ONLY, PASID | NEST_PARENT, 'EOPNOTSUPP'],
    ['an unknown flag', HOST_ONLY, 16, 'EOPNOTSUPP'],
  ])('%s', (_, efr, flags, code) => {
    const at = bench({ capabilities: { efr } });
    expect(codeOf(() => paging(at, flags))).toBe(code);
  });

  it('vendor data is refused', () => {
    const at = bench();
    const userData = { type: 3, length: 32, copyIn: () => new Uint8Array(32), copyOut() {} };
    expect(codeOf(() => at.unit.allocPaging(at.device, { flags: 0, userData }))).toBe('EOPNOTSUPP');
  });

  it('maxTableBytes bounds the tables: ENOMEM names the option', () => {
    const at = bench({ maxTableBytes: 2 << 20 });
    const domain = paging(at);
    attach(at, domain);
    const results = Array.from({ length: 4096 }, (_, i) => map(domain, i * 2 ** 18, 1));
    expect(results[0]).toBe(0);
    expect(results.at(-1)).toBe(-12);
    const more = () => {
      for (let i = 0; i < 1000; i++) paging(at);
    };
    const accepted = expect.stringMatching('maxTableBytes');
    expect(more).toThrow(
      expect.objectContaining({ code: 'ENOMEM', reason: expect.objectContaining({ accepted }) }),
    );
  });

  it('leaves force coherency: FC stands in every one, as Linux reports', () => {
    const at = bench();
    const domain = paging(at);
    expect(at.unit.caps.enforcesCacheCoherency).toBe(true);
    expect([domain.enforcesCacheCoherency, domain.enforceCacheCoherency?.()]).toEqual([true, true]);
  });
});

describe('AMD IOMMU 2.2.3: host tables of the host', () => {
  it.each([
    ['4 KiB', 1, 12],
    ['32 KiB', 8, 15],
    ['1 MiB', 256, 20],
    ['2 MiB', 512, 21],
    ['4 MiB', 1024, 22],
  ])('a page of %s is one leaf, every frame of it is reached', (_, pages, lg2) => {
    const at = bench();
    const domain = paging(at);
    attach(at, domain);
    expect(domain.pageSizesLg2).toContain(lg2);
    const frame = stampedPage(at.machine, pages);
    expect(map(domain, 4 * pages, frame, pages)).toBe(0);
    expect(reach(at.device, 4 * pages)).toBe(frame);
    expect(reach(at.device, 5 * pages - 1)).toBe(frame + pages - 1);
    expect(reach(at.device, 5 * pages)).toBe(-1);
    expect(domain.unmap(4 * pages, 1)).toBe(pages);
  });

  it('no page of 512 GiB: hardware has an erratum there', () => {
    expect(paging(bench()).pageSizesLg2).not.toContain(39);
  });

  it.each([
    ['HATS 1: 57 bits', FIVE_LEVELS, 2 ** 45],
    ['HATS 2: 64 bits', HOST_ONLY, 2 ** 52],
  ])('%s, and not a page more', (_, efr, frames) => {
    const at = bench({ capabilities: { efr } });
    const domain = paging(at);
    attach(at, domain);
    const frame = stampedPage(at.machine);
    expect(domain.apertureLastFrame).toBe(frames - 1);
    expect(map(domain, frames - 1, frame)).toBe(0);
    expect(reach(at.device, frames - 1)).toBe(frame);
    expect(map(domain, frames, frame)).toBe(-34);
  });

  it('smallPagesOnly: 4 KiB leaves alone', () => {
    const at = bench();
    const domain = at.unit.allocPaging(at.device, { flags: 0, smallPagesOnly: true });
    expect(domain.pageSizesLg2).toEqual([12]);
    map(domain, 512, stampedPage(at.machine, 512), 512);
    expect(domain.unmap(513, 1)).toBe(1);
  });
});
