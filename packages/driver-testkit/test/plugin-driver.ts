/** A driver of about a page: it translates by a map and has no tables, queues or registers. */
// #region driver
import {
  BLOCKED,
  type BlockingDomain,
  type Domain,
  DRIVER_API_VERSION,
  defineDriver,
  type IommuDriver,
  type IommuUnit,
  type PagingDomain,
  refuse,
  type UnitCaps,
} from '@iommukit/core';

const HW_INFO_TYPE = 0x5eed;
const LAST_FRAME = 2 ** 24 - 1;
const RIGHTS = 3;

/** Frames of 4 KiB and their rights, in a map. */
class MapDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = 12;
  readonly pageSizesLg2 = [12];
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame = LAST_FRAME;
  readonly nestParent = false;
  readonly pasidCompatible = false;
  readonly enforcesCacheCoherency = false;
  readonly unit: IommuUnit;
  readonly frames = new Map<number, { readonly output: number; readonly prot: number }>();

  constructor(unit: IommuUnit) {
    this.unit = unit;
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    const outputs: number[] = [];
    for (let i = 0; i < runCount; i++) {
      const first = runs[2 * i] as number;
      for (let n = 0; n < (runs[2 * i + 1] as number); n++) outputs.push(first + n);
    }
    if ((prot & RIGHTS) === 0) return -22;
    if (iovaFrame + outputs.length - 1 > LAST_FRAME) return -34;
    if (outputs.some((_output, n) => this.frames.has(iovaFrame + n))) return -98;
    outputs.forEach((output, n) => {
      this.frames.set(iovaFrame + n, { output, prot });
    });
    return 0;
  }

  unmap(iovaFrame: number, count: number): number {
    let done = 0;
    for (let n = 0; n < count; n++) if (this.frames.delete(iovaFrame + n)) done++;
    return done;
  }

  iovaToFrame(iovaFrame: number): number {
    return this.frames.get(iovaFrame)?.output ?? -1;
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    let runs = 0;
    for (let n = 0; n < count; n++) {
      const frame = this.iovaToFrame(iovaFrame + n);
      const last = 2 * (runs - 1);
      if (runs > 0 && (out[last] as number) + (out[last + 1] as number) === frame) {
        out[last + 1] = (out[last + 1] as number) + 1;
      } else if (frame >= 0) {
        if (2 * runs === out.length) return -7;
        out[2 * runs] = frame;
        out[2 * runs++ + 1] = 1;
      }
    }
    return runs;
  }

  sync(): void {}

  free(): void {}
}

const CAPS: UnitCaps = {
  pageSizesLg2: [12],
  iovaBits: 36,
  oaBits: 52,
  pasidBits: 0,
  enforcesCacheCoherency: false,
  cacheCoherent: true,
  guestStage: 0,
  ats: false,
  pri: false,
  stall: false,
};

const createUnit = (driver: IommuDriver): IommuUnit => {
  const attached = new Map<number, Domain>();
  const translatePage = (rid: number, _pasid: number, iovaPfn: number, access: number): number => {
    const domain = attached.get(rid);
    const entry = domain instanceof MapDomain ? domain.frames.get(iovaPfn) : undefined;
    const wanted = access & RIGHTS;
    return entry && (entry.prot & wanted) === wanted ? entry.output : BLOCKED;
  };
  const unsupported = (op: string, rule: string) => refuse('EOPNOTSUPP', op, rule, 'not offered');
  const unit: IommuUnit = {
    name: driver.name,
    driver,
    caps: CAPS,
    agent: { translatePage },
    get blocking(): BlockingDomain {
      return { kind: 'blocking', unit, free: () => {} };
    },
    probeDevice: () => {},
    releaseDevice: (device) => {
      attached.delete(device.rid);
    },
    reservedRegions: () => [],
    hwInfo: (_device, type) => {
      if (type !== 0 && type !== HW_INFO_TYPE) throw unsupported('IOMMU_GET_HW_INFO', 'type');
      return { type: HW_INFO_TYPE, data: new Uint8Array(4) };
    },
    hwCapabilities: () => 0,
    allocPaging: (_device, { flags, userData }) => {
      if (flags !== 0 || userData) throw unsupported('IOMMU_HWPT_ALLOC', 'flags');
      return new MapDomain(unit);
    },
    attach: (device, _pasid, domain) => {
      attached.set(device.rid, domain);
    },
  };
  return unit;
};

/** The driver: `machine.addUnit(myDriver())`. */
export const myDriver = (): IommuDriver => {
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: 'my-driver',
    hwInfoType: HW_INFO_TYPE,
    create: () => createUnit(driver),
  });
  return driver;
};
// #endregion
