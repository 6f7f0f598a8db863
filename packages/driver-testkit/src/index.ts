export { ConformanceBench, ConformanceFailure } from './conformance/bench.ts';
export type { ConformanceCase } from './conformance/case.ts';
export {
  CONFORMANCE_CASES,
  type ConformanceOutcome,
  describeConformance,
  runConformance,
  runConformanceCase,
  type TestRunner,
} from './conformance/suite.ts';
export type { ConformanceNeed, ConformanceTarget, NestingSupport } from './conformance/target.ts';
export type { GoldenPlatform, ReplayMachine } from './golden/platform.ts';
export { type ReplayEnd, type ReplayOptions, replaySequence } from './golden/replay.ts';
export {
  type GoldenDifference,
  type GoldenSequence,
  type GoldenStep,
  parseSequence,
} from './golden/sequence.ts';
export { iommuTest } from './iommu-test/extension.ts';
export * from './mock/constants.ts';
export { mockDriver } from './mock/driver.ts';
export { MockNestedDomain } from './mock/nested-domain.ts';
export { MockPagingDomain } from './mock/paging-domain.ts';
export { type MockDeviceState, MockUnit } from './mock/unit.ts';
export { MockViommu } from './mock/viommu.ts';
