import * as tf from '@tensorflow/tfjs';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Usage } from '../generate';
import type { TurnQueue } from './queue';

/** How a request ended. */
export type Outcome = 'answered' | 'invalid' | 'unauthorized' | 'refused' | 'busy' | 'aborted' | 'failed';

const SECONDS: number[] = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

/** By the HTTP status; 499 stands for a client that went away. */
export function outcomeOf(status: number): Outcome {
  if (status < 400) return 'answered';
  if (status === 401) return 'unauthorized';
  if (status === 403) return 'refused';
  if (status === 429 || status === 503) return 'busy';
  if (status === 499) return 'aborted';
  return status < 500 ? 'invalid' : 'failed';
}

/** Counts and times in a registry of their own: a program that embeds the server keeps its own apart. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly requests = this.counter('vispruner_requests_total', 'Requests by path and outcome', ['path', 'outcome']);
  private readonly tokens = this.counter('vispruner_tokens_total', 'Tokens of answered requests', ['kind']);
  private readonly visualTokens = this.counter('vispruner_visual_tokens_total', 'Visual tokens before and after pruning', ['stage']);
  private readonly firstToken = this.histogram('vispruner_first_token_seconds', 'From the arrival of a completion request to its first text');
  private readonly duration = this.histogram('vispruner_request_duration_seconds', 'From the arrival of a completion request to its end', [
    'outcome',
  ]);
  private readonly waited = this.histogram('vispruner_queue_seconds', 'Time that completion requests waited for their turn');

  constructor(queue: TurnQueue) {
    this.gauge('vispruner_queue_length', 'Requests that wait for their turn', () => queue.length);
    this.gauge('vispruner_requests_in_flight', 'Requests that are being answered', () => Number(queue.running));
    this.gauge('process_resident_memory_bytes', 'Memory of the process', () => process.memoryUsage.rss());
    this.gauge('process_heap_bytes', 'Memory that JavaScript uses', () => process.memoryUsage().heapUsed);
    this.gauge('tfjs_tensors', 'Tensors that TensorFlow.js holds', () => tf.memory().numTensors);
    this.gauge('tfjs_bytes', 'Bytes of those tensors', () => tf.memory().numBytes);
    const started = Date.now() / 1000 - process.uptime();
    this.gauge('process_start_time_seconds', 'When the process started', () => started);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** In Prometheus' text format. */
  text(): Promise<string> {
    return this.registry.metrics();
  }

  request(path: string, outcome: Outcome): void {
    this.requests.inc({ path, outcome });
  }

  completion(outcome: Outcome, seconds: { readonly total: number; readonly waited?: number; readonly firstToken?: number }): void {
    this.duration.observe({ outcome }, seconds.total);
    if (seconds.waited !== undefined) this.waited.observe(seconds.waited);
    if (seconds.firstToken !== undefined) this.firstToken.observe(seconds.firstToken);
  }

  answered({ promptTokens, cachedTokens, newTokens, visualTokens, visualTokensBefore }: Usage): void {
    this.tokens.inc({ kind: 'prompt' }, promptTokens);
    this.tokens.inc({ kind: 'prompt_cached' }, cachedTokens);
    this.tokens.inc({ kind: 'completion' }, newTokens);
    this.visualTokens.inc({ stage: 'before' }, visualTokensBefore);
    this.visualTokens.inc({ stage: 'after' }, visualTokens);
  }

  private counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  private histogram<Label extends string = never>(name: string, help: string, labelNames: Label[] = []): Histogram<Label> {
    return new Histogram({ name, help, labelNames, buckets: SECONDS, registers: [this.registry] });
  }

  private gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => gauge.set(read()) });
  }
}
