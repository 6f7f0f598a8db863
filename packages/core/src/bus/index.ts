export * from './bdf.ts';
export * from './device-tlb.ts';
export * from './dma-transfer.ts';
export * from './endpoint.ts';
export * from './endpoint-options.ts';
export * from './group.ts';
export * from './machine.ts';
export * from './request.ts';
