export * from './conditions';
export * from './evaluate';
export * from './interval';
export * from './table';
