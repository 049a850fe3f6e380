export * from '../random';
export * from './constants';
export * from './generate';
export * from './questions';
export * from './tokenizer';
