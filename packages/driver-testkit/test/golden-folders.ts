/** Folders of recordings, and where each was made. */
import type { GoldenPlatform } from '@iommukit/driver-testkit';

export const FOLDERS: readonly (readonly [folder: string, platform: GoldenPlatform])[] = [
  ['systematic', 'mock'],
  ['random', 'mock'],
  ['iommufd-vtd-legacy', 'vtd-legacy'],
  ['iommufd-vtd-scalable-stage1', 'vtd-scalable-stage1'],
  ['iommufd-vtd-scalable-stage2', 'vtd-scalable-stage2'],
  ['noiommu', 'noiommu'],
];
