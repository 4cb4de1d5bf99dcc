/** React on a page in memory, with clients on sockets in memory; what React complains of fails the test. */
import "./dom";
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Profiler, StrictMode, act, createElement, version, type ReactNode } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { CursormeshProvider, RoomProvider, type CursormeshProviderProps, type RoomProviderProps } from "../src/react";
import { World } from "./world";

export const h = createElement;

/** Counts what a component does: `count("list")` in its body, `counts.list` in the test. */
export class Counts {
  readonly of: Record<string, number> = {};
  readonly count = (name: string): void => {
    this.of[name] = (this.of[name] ?? 0) + 1;
  };
  /** What was counted since the last time. */
  take(): Record<string, number> {
    const taken = { ...this.of };
    for (const name of Object.keys(this.of)) delete this.of[name];
    return taken;
  }
}

export class Page {
  readonly world = new World();
  readonly counts = new Counts();
  readonly complaints: string[] = [];
  readonly container = document.createElement("div");
  #root: Root | null = null;

  constructor(t: TestContext) {
    document.body.append(this.container);
    this.world.alive = true;
    for (const method of ["error", "warn"] as const) {
      t.mock.method(console, method, (...words: unknown[]) => void this.complaints.push(words.map(String).join(" ")));
    }
    t.after(async () => {
      if (this.#root) await this.unmount();
      this.container.remove();
      assert.deepEqual(this.complaints, [], "React, or somebody else, complained");
      assert.deepEqual(this.world.errors, []);
    });
  }

  /** Children within providers of this page's world. */
  room(children: ReactNode, { room = {}, client = {} }: { room?: Partial<RoomProviderProps>; client?: CursormeshProviderProps } = {}): ReactNode {
    return this.client(h(RoomProvider, { name: "lobby", ...room }, children), client);
  }

  client(children: ReactNode, more: CursormeshProviderProps = {}): ReactNode {
    return h(CursormeshProvider, { url: "http://n1.test", environment: this.world.environment, nearest: false, ...more }, children);
  }

  async render(node: ReactNode): Promise<void> {
    this.#root ??= createRoot(this.container);
    await act(async () => this.#root?.render(node));
    await this.later();
  }

  strict(node: ReactNode): Promise<void> {
    return this.render(h(StrictMode, null, node));
  }

  async hydrate(node: ReactNode): Promise<void> {
    await act(async () => {
      this.#root = hydrateRoot(this.container, node, { onRecoverableError: (error) => void this.complaints.push(String(error)) });
    });
    await this.later();
  }

  async unmount(): Promise<void> {
    await act(async () => this.#root?.unmount());
    this.#root = null;
    await this.later();
  }

  /** Does something to the world and lets React see it. */
  async act(fn: () => void | Promise<void>): Promise<void> {
    await act(async () => {
      await fn();
      await this.world.clock.advance(0);
    });
  }

  /** Lets the timers run that tell a break from the end. */
  async later(): Promise<void> {
    await act(async () => {
      await sleep(5);
      await this.world.clock.advance(0);
    });
  }

  get text(): string {
    return this.container.textContent ?? "";
  }
}

export { Profiler, act, version };
