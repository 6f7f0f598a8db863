export * from './contract.ts';
export * from './define-driver.ts';
export * from './host-memory.ts';
