// A driver with nothing behind it but an array: one frame number per IOVA page. What a round trip
// through it costs is core's share, plus one store per page.
import { BLOCKED, DRIVER_API_VERSION, defineDriver } from '../dist/index.js';

/** Pages of the aperture: 64 MiB of IOVA. */
const PAGES = 1 << 14;
const EINVAL = -22;

/** One paging domain; `maps` and `unmaps` count the calls that reached it. */
class ArrayDomain {
  kind = 'paging';
  granuleLg2 = 12;
  pageSizesLg2 = [12];
  apertureStartFrame = 0;
  apertureLastFrame = PAGES - 1;
  nestParent = false;
  pasidCompatible = false;
  enforcesCacheCoherency = true;
  maps = 0;
  unmaps = 0;
  frames = new Float64Array(PAGES).fill(-1);

  constructor(unit) {
    this.unit = unit;
  }

  mapRuns(iovaFrame, runs, runCount) {
    let at = iovaFrame;
    for (let i = 0; i < runCount; i++) {
      for (let n = 0; n < runs[2 * i + 1]; n++) this.frames[at++] = runs[2 * i] + n;
    }
    this.maps++;
    return 0;
  }

  unmap(iovaFrame, count) {
    this.frames.fill(-1, iovaFrame, iovaFrame + count);
    this.unmaps++;
    return count;
  }

  sync() {}

  iovaToFrame(iovaFrame) {
    return this.frames[iovaFrame];
  }

  readRuns(iovaFrame, count, out) {
    if (out.length < 2 * count) return -7;
    for (let n = 0; n < count; n++) {
      if (this.frames[iovaFrame + n] < 0) return EINVAL;
      out[2 * n] = this.frames[iovaFrame + n];
      out[2 * n + 1] = 1;
    }
    return count;
  }

  free() {}
}

/** The unit; `attached` is the domain of its only device. */
class ArrayUnit {
  name = 'array';
  attached = undefined;
  caps = {
    pageSizesLg2: [12],
    iovaBits: 26,
    oaBits: 52,
    pasidBits: 0,
    enforcesCacheCoherency: true,
    cacheCoherent: true,
    guestStage: 0,
    ats: false,
    pri: false,
    stall: false,
  };

  constructor(driver) {
    this.driver = driver;
    this.blocking = { kind: 'blocking', unit: this, free() {} };
    this.agent = {
      translatePage: (_rid, _pasid, pfn) =>
        this.attached instanceof ArrayDomain ? this.attached.iovaToFrame(pfn) : BLOCKED,
    };
  }

  probeDevice() {}
  releaseDevice() {}
  reservedRegions() {
    return [];
  }
  hwInfo() {
    return { type: 0, data: new Uint8Array(0) };
  }
  hwCapabilities() {
    return 0;
  }
  allocPaging() {
    return new ArrayDomain(this);
  }
  attach(_device, _pasid, domain) {
    this.attached = domain;
  }
}

/** The driver of {@link ArrayUnit}. */
export const arrayDriver = defineDriver({
  apiVersion: DRIVER_API_VERSION,
  name: 'bench-array',
  hwInfoType: 0,
  create() {
    return new ArrayUnit(this);
  },
});
