// Send the journey by one real client of Node: node send.mjs CLIENT ADDRESS WHO SHIFT_S, in the folder of the packages.
// The clock of this process is SHIFT_S seconds ahead; the events lie one minute apart, the last one ten minutes ago.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [client, address, who, shift] = process.argv.slice(2);
const need = createRequire(join(process.cwd(), "package.json"));
const here = dirname(fileURLToPath(import.meta.url));
const journey = JSON.parse(readFileSync(join(here, "journey.json"), "utf8"));
const BAD = { product_id: "A", price: "cheap" };

const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length ? args : [RealDate.now() + shift * 1000]));
  }
  static now() {
    return RealDate.now() + shift * 1000;
  }
};

const last = Math.floor(Date.now() / 1000) - 600;
const at = (number) => new Date((last - 60 * (journey.length - 1 - number)) * 1000);

const clients = {
  async segment() {
    const { Analytics } = need("@segment/analytics-node");
    const analytics = new Analytics({ writeKey: "wk", host: address, maxRetries: 5 });
    analytics.on("error", failed);
    analytics.track({ userId: who, event: "Product Viewed", properties: BAD, timestamp: at(0) });
    journey.forEach((said, n) =>
      analytics.track({ userId: who, anonymousId: `${who}-cookie`, timestamp: at(n), ...said }));
    await analytics.closeAndFlush({ timeout: 30000 });
  },

  async rudder() {
    const Analytics = need("@rudderstack/rudder-sdk-node").default ?? need("@rudderstack/rudder-sdk-node");
    const analytics = new Analytics("wk", { dataPlaneUrl: address, logLevel: "error" });
    analytics.track({ userId: who, event: "Product Viewed", properties: BAD, timestamp: at(0) });
    journey.forEach((said, n) =>
      analytics.track({ userId: who, anonymousId: `${who}-cookie`, originalTimestamp: at(n), timestamp: at(n), ...said }));
    await new Promise((done) => analytics.flush(done));
  },

  async posthog() {
    const { PostHog } = need("posthog-node");
    const posthog = new PostHog("wk", { host: address, flushAt: 50 });
    posthog.on("error", failed);
    posthog.capture({ distinctId: who, event: "Product Viewed", properties: BAD, timestamp: at(0) });
    journey.forEach((said, n) => posthog.capture({ distinctId: who, timestamp: at(n), ...said }));
    await posthog.shutdown(30000);
  },

  async snowplow() {
    const { newTracker, buildSelfDescribingEvent } = need("@snowplow/node-tracker");
    const vendor = "iglu:com.snowplowanalytics.snowplow";
    const actions = {
      "Product List Viewed": "list_view", "Product Clicked": "list_click", "Product Viewed": "product_view",
      "Product Added": "add_to_cart", "Product Removed": "remove_from_cart", "Checkout Started": "checkout_step",
      "Payment Info Entered": "checkout_step", "Order Completed": "transaction", "Promotion Viewed": "promo_view",
      "Order Refunded": "refund",
    };
    const entity = (kind, data) => ({ schema: `${vendor}.ecommerce/${kind}/jsonschema/1-0-0`, data });
    const tracker = newTracker({ namespace: "sp", appId: "shop" }, { endpoint: address, eventMethod: "post", bufferSize: 50 });
    tracker.setUserId(who);
    tracker.setDomainUserId(`${who}-cookie`);
    for (const { event, properties: p } of journey) {
      if (event === "Products Searched") {
        const search = { schema: `${vendor}/site_search/jsonschema/1-0-0`, data: { terms: p.query.split(" ") } };
        tracker.track(buildSelfDescribingEvent({ event: search }));
      }
      if (!(event in actions)) continue;
      const products = p.products ?? ("product_id" in p ? [p] : []);
      const entities = products.map(({ product_id, list_id, recommendation_id, ...one }) =>
        entity("product", { id: product_id, ...one, currency: p.currency }));
      if (event === "Order Completed")
        entities.push(entity("transaction", { transaction_id: p.order_id, currency: p.currency, revenue: p.revenue,
          tax: p.tax, shipping: p.shipping, discount_code: p.coupon }));
      if (event === "Order Refunded")
        entities.push(entity("refund", { transaction_id: p.order_id, refund_amount: 12.5, currency: p.currency }));
      if (event === "Promotion Viewed")
        entities.push(entity("promotion", { id: p.promotion_id, name: p.name, creative_id: p.creative }));
      if (event === "Checkout Started") entities.push(entity("checkout_step", { step: 1 }));
      if (event === "Payment Info Entered")
        entities.push(entity("checkout_step", { step: 2, payment_method: p.payment_method }));
      const data = { type: actions[event], ...(p.list_id ? { name: p.list_id } : {}) };
      const action = { schema: `${vendor}.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2`, data };
      tracker.track(buildSelfDescribingEvent({ event: action }), entities);
    }
    tracker.flush();
    await new Promise((done) => setTimeout(done, 3000)); // it does not say when it has sent
  },

  async gorse() {
    const { Gorse } = need("gorsejs");
    const gorse = new Gorse({ endpoint: address, secret: "wk" });
    const words = { "Product Clicked": "click", "Product Viewed": "read", "Product Added": "cart",
      "Product Removed": "remove", "Order Completed": "buy", "Order Refunded": "refund" };
    for (const [n, { event, properties: p }] of journey.entries()) {
      if (!(event in words)) continue;
      const feedback = (p.products ?? [p]).map((one) => ({ FeedbackType: words[event], UserId: who,
        ItemId: one.product_id, Timestamp: at(n).toISOString(), Value: 1, Comment: "" }));
      for (let twice = 0; twice < 2; twice++) {
        const affected = await gorse.upsertFeedbacks(feedback); // it hands RowAffected on
        if (affected !== feedback.length) failed(`RowAffected ${affected}`);
      }
    }
  },

  async personalize() {
    const { PersonalizeEventsClient, PutEventsCommand } = need("@aws-sdk/client-personalize-events");
    const credentials = { accessKeyId: "wk", secretAccessKey: "-" };
    const personalize = new PersonalizeEventsClient({ endpoint: address, region: "eu-west-1", credentials });
    for (const [n, { event, properties }] of journey.entries()) {
      const { products, product_id, recommendation_id, ...beside } = properties;
      const eventList = (products ?? [properties]).map(({ product_id, recommendation_id: _, products: __, ...one }) => ({
        eventType: event, sentAt: at(n), eventId: randomUUID(), itemId: product_id,
        properties: JSON.stringify({ ...beside, ...one }), recommendationId: recommendation_id }));
      await personalize.send(new PutEventsCommand({ trackingId: "t", userId: who, sessionId: `${who}-session`, eventList }));
    }
  },
};

function failed(error) {
  console.log(`the client gave up: ${error?.code ?? error}`);
}

await clients[client]();
