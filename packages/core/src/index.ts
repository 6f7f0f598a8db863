export * from './bus/index.ts';
export * from './driver/index.ts';
export * from './errno.ts';
export * from './errors.ts';
export * from './iommufd/index.ts';
export * from './iopt/index.ts';
export * from './memory/index.ts';
export * from './uapi/index.ts';
