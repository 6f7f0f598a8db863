export * from './hardware/index.ts';
export * from './spec/index.ts';
