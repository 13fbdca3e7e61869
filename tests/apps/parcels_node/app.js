// Parcels: Express with PostgreSQL, no line of it about tracing.
// As tests/apps/parcels_flask.py. The fault: one of two statements is slow.
const { existsSync, readFileSync } = require("node:fs");
const { join } = require("node:path");
const express = require("express");
const { Pool } = require("pg");

const FAULT = join(process.env.DATA, "fault");
const fault = () => (existsSync(FAULT) ? readFileSync(FAULT, "utf8") : "");

const pool = new Pool({ connectionString: process.env.DATABASE, max: 32 });
const app = express();

app.get("/parcels/:number", async (request, response) => {
  const { number } = request.params;
  const towns = await pool.query("SELECT town FROM parcels WHERE id = $1", [number]);
  const seconds = fault() === "slow" ? 1.0 : 0.002;
  await pool.query("SELECT id, pg_sleep($2) FROM parcels WHERE id = $1", [number, seconds]);
  response.json({ id: number, towns: towns.rowCount });
});

app.get("/parcels/:number/place", async (request, response) => {
  try {
    const options = { signal: AbortSignal.timeout(5000) };
    const answer = await fetch(`${process.env.CARRIER}/track/${request.params.number}`, options);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    response.json(await answer.json());
  } catch (error) {
    response.status(502).json({ message: "the carrier does not say" });
  }
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`Running on http://127.0.0.1:${server.address().port}`);
});
