// Readers of JavaScript: what each finds in a store or a COG, as JSON; see readers.py.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [name, ...paths] = process.argv.slice(2);

const digest = (data) =>
  createHash("sha256").update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest("hex").slice(0, 16);

async function zarrita(path) {
  const zarr = await import("zarrita");
  let store;
  if (path.endsWith(".ozx")) {
    const { default: ZipFileStore } = await import("@zarrita/storage/zip");
    const { openAsBlob } = await import("node:fs");
    store = ZipFileStore.fromBlob(await openAsBlob(path));
  } else {
    const { default: FileSystemStore } = await import("@zarrita/storage/fs");
    store = new FileSystemStore(path);
  }
  const group = await zarr.open.v3(zarr.root(store), { kind: "group" });
  const pixels = [];
  let axes;
  for (const { path: level } of group.attrs.ome.multiscales[0].datasets) {
    const array = await zarr.open.v3(group.resolve(level), { kind: "array" });
    pixels.push(digest((await zarr.get(array)).data));
    axes ??= array.dimensionNames;
  }
  return { pixels, axes, channels: group.attrs.ome.omero?.channels.map((c) => c.label) };
}

async function geotiff(path) {
  const { fromFile } = await import("geotiff");
  const file = await fromFile(path);
  const image = await file.getImage(0);
  const bands = await image.readRasters();
  const [a, b] = [image.getOrigin(), image.getResolution()];
  let levels = 0;
  for (let k = 0; k < (await file.getImageCount()); k++) {
    const type = (await file.getImage(k)).fileDirectory.getValue("NewSubfileType") ?? 0;
    levels += type & 4 ? 0 : 1;
  }
  return {
    pixels0: digest(Buffer.concat(bands.map((band) => Buffer.from(band.buffer, band.byteOffset, band.byteLength)))),
    size: [image.getWidth(), image.getHeight()],
    transform: [b[0], 0, a[0], 0, b[1], a[1]],
    nodata: image.getGDALNoData(),
    epsg: image.getGeoKeys().ProjectedCSTypeGeoKey,
    levels,
  };
}

async function cogeotiff(path) {
  const { Tiff } = await import("@cogeotiff/core");
  const { SourceFile } = await import("@chunkd/source-file");
  const file = await Tiff.create(new SourceFile(pathToFileURL(path)));
  const [image] = file.images;
  const tile = await image.getTile(0, 0);
  if (!tile?.bytes.byteLength) throw new Error("its first tile is empty");
  const { width, height } = image.size;
  const [a, b] = [image.origin, image.resolution];
  const levels = file.images.filter((one) => !((one.value(254) ?? 0) & 4)).length;
  return { size: [width, height], epsg: image.epsg, transform: [b[0], 0, a[0], 0, b[1], a[1]], levels };
}

const readers = { zarrita, "geotiff.js": geotiff, "@cogeotiff/core": cogeotiff };
const own = new URL(`node_modules/${name.replace(".js", "")}/package.json`, import.meta.url);
console.log(JSON.stringify({ version: JSON.parse(readFileSync(own, "utf8")).version }));
for (const path of paths) {
  const answer = await readers[name](path).catch((error) => ({ error: `${error.name}: ${error.message}` }));
  console.log(JSON.stringify(answer));
}
