// Call every method of gorsejs: node gorse.mjs ADDRESS SECRET, in the folder of the packages.
// Prints {method: what it gave, or {refused: the HTTP status, detail: what the server said}} and the methods there are.
import { createRequire } from "node:module";
import { join } from "node:path";

const [endpoint, secret] = process.argv.slice(2);
const { Gorse } = createRequire(join(process.cwd(), "package.json"))("gorsejs");
const gorse = new Gorse({ endpoint, secret });
const at = "2026-01-01T00:00:00Z";
const said = [{ FeedbackType: "read", UserId: "node", ItemId: "red-1", Timestamp: at }];
const read = { type: "read", userId: "node", itemId: "red-1" };
const page = { n: 3 };
const product = { ItemId: "node-1", IsHidden: false, Timestamp: at, Categories: ["Table"], Comment: "a node lamp" };

const calls = [
  ["insertFeedbacks", () => gorse.insertFeedbacks(said)],
  ["upsertFeedbacks", () => gorse.upsertFeedbacks(said)],
  ["getFeedback", () => gorse.getFeedback(read)],
  ["deleteFeedback", () => gorse.deleteFeedback(read)],
  ["getFeedbacks", () => gorse.getFeedbacks(undefined, page)],
  ["getFeedbacks read", () => gorse.getFeedbacks("read", { n: 1000 })],
  ["getItemFeedback", () => gorse.getItemFeedback("red-1")],
  ["getItemFeedbackByType", () => gorse.getItemFeedbackByType("red-1", "read")],
  ["getUserFeedback", () => gorse.getUserFeedback("node")],
  ["getUserFeedbackByType", () => gorse.getUserFeedbackByType("node", "read")],
  ["upsertItem", () => gorse.upsertItem(product)],
  ["upsertItems", () => gorse.upsertItems([product])],
  ["updateItem", () => gorse.updateItem("node-1", { ...product, Comment: "a red node lamp" })],
  ["deleteItem", () => gorse.deleteItem("node-1")],
  ["insertItemCategory", () => gorse.insertItemCategory("red-1", "Cups")],
  ["deleteItemCategory", () => gorse.deleteItemCategory("red-1", "Cups")],
  ["getItem", () => gorse.getItem("red-2")],
  ["getItems", () => gorse.getItems(page)],
  ["getItems second", async () => gorse.getItems({ n: 3, Cursor: (await gorse.getItems(page)).Cursor })],
  ["getItemNeighbors", () => gorse.getItemNeighbors({ itemId: "red-2", category: "Table", cursorOptions: page })],
  ["insertUser", () => gorse.insertUser({ UserId: "node", Labels: { tier: "gold" } })],
  ["insertUsers", () => gorse.insertUsers([{ UserId: "node2", Labels: { tier: "gold" } }])],
  ["updateUser", () => gorse.updateUser("node", { UserId: "node", Labels: { tier: "silver" } })],
  ["getUser", () => gorse.getUser("node")],
  ["getUsers", () => gorse.getUsers({ n: 1000 })],
  ["deleteUser", () => gorse.deleteUser("node")],
  ["getUserNeighbors", () => gorse.getUserNeighbors({ userId: "u1", cursorOptions: page })],
  ["getPopular", () => gorse.getPopular({ category: "Table", cursorOptions: page })],
  ["getLatest", () => gorse.getLatest({ cursorOptions: page })],
  ["getRecommend", () => gorse.getRecommend({ userId: "u1", cursorOptions: page })],
  ["getRecommend written back", () => gorse.getRecommend({ userId: "u1", writeBackType: "read" })],
  ["getSessionRecommend", () => gorse.getSessionRecommend(said, { category: "Table", cursorOptions: page })],
];

const found = {};
for (const [name, call] of calls) {
  try {
    found[name] = await call();
  } catch (error) {
    found[name] = { refused: error.code ?? error.status ?? error.statusCode, detail: error.message };
  }
}
const methods = Object.getOwnPropertyNames(Gorse.prototype).filter((name) => name !== "constructor");
console.log(JSON.stringify({ found, methods }));
