import { describe, expect, it } from 'vitest';
import { firstStageGeometry, secondStageGeometry } from '../../src/host/geometry.ts';
import { type VtdIommuUnit, vtd } from '../../src/index.ts';
import { bench, codeOf, SVA_DEVICE } from './fixture.ts';

const caps = (cap: Record<string, number>) =>
  ({
    cap: { SAGAW: 0, MGAW: 47, SSLPS: 3, FS5LP: 0, FS1GP: 0, ...cap },
    guestAddressBits: (cap['MGAW'] ?? 47) + 1,
  }) as unknown as Parameters<typeof firstStageGeometry>[0];

describe('table geometry from CAP', () => {
  it.each([
    [{ SAGAW: 0b1110, MGAW: 56 }, 5, 57],
    [{ SAGAW: 0b0110, MGAW: 56 }, 4, 48],
    [{ SAGAW: 0b1000, MGAW: 47 }, 5, 48],
    [{ SAGAW: 0b1100, MGAW: 47 }, 5, 48],
    [{ SAGAW: 0b0100, MGAW: 47 }, 4, 48],
    [{ SAGAW: 0b0010, MGAW: 47 }, 3, 39],
    [{ SAGAW: 0b0010, MGAW: 38 }, 3, 39],
    [{ SAGAW: 0b0110, MGAW: 38 }, 4, 39],
    [{ SAGAW: 0b1000, MGAW: 38 }, 5, 39],
    [{ SAGAW: 0b0110, MGAW: 34 }, 4, 35],
  ])('second stage %o: %i levels, %i bits', (cap, levels, iovaBits) => {
    expect(secondStageGeometry(caps(cap), false)).toMatchObject({ levels, iovaBits });
  });

  it('second stage: none', () => {
    expect(secondStageGeometry(caps({ SAGAW: 0, MGAW: 47 }), false)).toBeUndefined();
    expect(secondStageGeometry(caps({ SAGAW: 0b0110, MGAW: 29 }), false)).toBeUndefined();
  });

  it.each([
    [{ MGAW: 56, FS5LP: 1 }, 5, 56],
    [{ MGAW: 56, FS5LP: 0 }, 4, 47],
    [{ MGAW: 47, FS5LP: 1 }, 4, 47],
    [{ MGAW: 38, FS5LP: 0 }, 4, 38],
  ])('first stage %o: %i levels, lower half of it %i bits', (cap, levels, iovaBits) => {
    expect(firstStageGeometry(caps(cap), false)).toMatchObject({ levels, iovaBits });
  });

  it.each([
    [{ SSLPS: 0 }, [12]],
    [{ SSLPS: 1 }, [12, 21]],
    [{ SSLPS: 3 }, [12, 21, 30]],
  ])('page sizes %o', (cap, sizes) => {
    expect(secondStageGeometry(caps({ SAGAW: 4, ...cap }), false)?.pageSizesLg2).toEqual(sizes);
    expect(secondStageGeometry(caps({ SAGAW: 4, ...cap }), true)?.pageSizesLg2).toEqual([12]);
  });

  it('page sizes, first stage', () => {
    expect(firstStageGeometry(caps({}), false).pageSizesLg2).toEqual([12, 21]);
    expect(firstStageGeometry(caps({ FS1GP: 1 }), false).pageSizesLg2).toEqual([12, 21, 30]);
  });
});

describe('IOMMU_GET_HW_INFO', () => {
  const hex = (bytes: Uint8Array) =>
    [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

  it('gives the 24 bytes of the worked example', () => {
    const { unit, device } = bench();
    for (const type of [0, 1]) {
      const info = unit.hwInfo(device, type);
      expect(info.type).toBe(1);
      expect(hex(info.data)).toBe('0100000000000000060e78228c07d291c7f000a49eed3300');
    }
  });

  it('without the erratum the flag is clear; another type is EOPNOTSUPP', () => {
    const { unit, device } = bench({ erratum772415: false });
    expect(hex(unit.hwInfo(device, 0).data).slice(0, 16)).toBe('0000000000000000');
    expect(codeOf(() => unit.hwInfo(device, 2))).toBe('EOPNOTSUPP');
  });

  it('capability bits: dirty, PASID privileged, ATS missing', () => {
    const at = bench({}, [SVA_DEVICE, { rid: '00:06.0' }]);
    const [sva, plain] = at.devices as [typeof at.device, typeof at.device];
    expect(at.unit.hwCapabilities(sva)).toBe(1 | 4);
    expect(at.unit.hwCapabilities(plain)).toBe(1 | 8);
  });
});

describe('what a unit says of itself', () => {
  it('the recommended model', () => {
    const { unit } = bench();
    expect(unit.caps).toEqual({
      pageSizesLg2: [12, 21, 30],
      iovaBits: 56,
      oaBits: 46,
      pasidBits: 20,
      enforcesCacheCoherency: true,
      cacheCoherent: true,
      guestStage: 1,
      ats: true,
      pri: true,
      stall: false,
    });
  });

  it('legacy mode', () => {
    const { unit } = bench({ scalable: false });
    expect(unit.caps).toMatchObject({ pasidBits: 0, guestStage: 0, pri: false, iovaBits: 57 });
    expect(unit.identity).toBeDefined();
  });

  it.each([
    ['a client of 2021', 0x1c0000c40660462n, 0x49e2ff0505en],
    ['a server of 2023', 0xc9de008cee690462n, 0x12ca9a00f0efden],
    ['an old client', 0xc0000020e60262n, 0xf0101an],
  ])('comes up on the registers of %s', (_name, cap, ecap) => {
    const at = bench({ capabilities: { ver: 0x40, cap, ecap } });
    const { hardware } = at.unit as VtdIommuUnit;
    expect(hardware.readReg32(0x1c) >>> 31).toBe(1);
    expect(at.unit.caps.iovaBits).toBeGreaterThan(38);
  });

  it('refuses a unit without an invalidation queue', () => {
    expect(
      codeOf(() => bench({ capabilities: { ver: 0x10, cap: 0xc0000020e60262n, ecap: 0xf01018n } })),
    ).toBe('ENODEV');
  });

  it('names its units and frees the message addresses for each', () => {
    const at = bench({ name: 'dmar' });
    at.machine.addEndpoint({ rid: '09:00.0' });
    const second = at.machine.addUnit(at.unit.driver);
    expect([at.unit.name, second.name]).toEqual(['dmar0', 'dmar1']);
  });
});

describe('VT-d 8.4: reserved regions', () => {
  const GRAPHICS = { start: 0x7c00_0000, last: 0x7fff_ffff, rids: [0x10], relaxable: true };
  const RAID = { start: 0x1000, last: 0x1fff, rids: [0x20, 0x28] };

  it('the message window, and the RMRRs of the device', () => {
    const at = bench({ rmrrs: [GRAPHICS, RAID] }, [{ rid: 0x20 }, { rid: 0x10 }, { rid: 0x30 }]);
    const window = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' };
    const of = (i: number) => at.unit.reservedRegions(at.devices[i] as typeof at.device);
    expect(of(0)).toEqual([{ start: 0x1000, last: 0x1fff, kind: 'direct' }, window]);
    expect(of(1)).toEqual([{ start: 0x7c00_0000, last: 0x7fff_ffff, kind: 'relaxable' }, window]);
    expect(of(2)).toEqual([window]);
  });

  it.each([
    [{ start: 0x1001, last: 0x1fff }],
    [{ start: 0x1000, last: 0x2000 }],
    [{ start: 0x2000, last: 0x1fff }],
  ])('%o is refused at once', (range) => {
    expect(codeOf(() => vtd({ rmrrs: [{ ...range, rids: [1] }] }))).toBe('EINVAL');
  });
});
