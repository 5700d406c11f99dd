// The journey by the trackers of a page: window.send[client](address, who, journey) inside a real browser.
// The page's clock is two hours ahead; the events lie one minute apart, the last one ten minutes ago.
const BAD = { product_id: "A", price: "cheap" };
const last = Math.floor(Date.now() / 1000) - 600;
const at = (number, journey) => new Date((last - 60 * (journey.length - 1 - number)) * 1000);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

window.send = {
  async segment(address, who, journey, integrations = {}) {
    const { AnalyticsBrowser } = window.AnalyticsNext;
    const [analytics] = await AnalyticsBrowser.load({ writeKey: "wk", cdnURL: address }, { integrations });
    await analytics.identify(who);
    await analytics.track("Product Viewed", BAD, { timestamp: at(0, journey) });
    for (const [n, { event, properties }] of journey.entries())
      await analytics.track(event, properties, { timestamp: at(n, journey) });
  },

  batching(address, who, journey) {
    const deliveryStrategy = { strategy: "batching", config: { size: 5, timeout: 500 } };
    return window.send.segment(address, who, journey, { "Segment.io": { deliveryStrategy } });
  },

  async snowplow(address, who, journey) {
    const { newTracker, setUserId, trackSelfDescribingEvent } = window.snowplowBrowserTracking;
    const shop = window.snowplowEcommerceAccelerator;
    newTracker("sp", address, { appId: "shop", plugins: [shop.SnowplowEcommercePlugin()], bufferSize: 1 });
    setUserId(who);
    const product = (currency) => ({ product_id, list_id, recommendation_id, currency: _, ...one }) =>
      ({ id: product_id, currency, ...one });
    const say = {
      "Products Searched": (p) => trackSelfDescribingEvent({ event: {
        schema: "iglu:com.snowplowanalytics.snowplow/site_search/jsonschema/1-0-0", data: { terms: p.query.split(" ") } } }),
      "Product List Viewed": (p, products) => shop.trackProductListView({ name: p.list_id, products }),
      "Product Clicked": (p, [one]) => shop.trackProductListClick({ product: one }),
      "Product Viewed": (p, [one]) => shop.trackProductView(one),
      "Product Added": (p, products) => shop.trackAddToCart({ products, total_value: 25, currency: p.currency }),
      "Product Removed": (p, products) => shop.trackRemoveFromCart({ products, total_value: 12.5, currency: p.currency }),
      "Checkout Started": (p, products) => shop.trackCheckoutStep({ step: 1, context: products.map((data) => ({
        schema: "iglu:com.snowplowanalytics.snowplow.ecommerce/product/jsonschema/1-0-0", data })) }),
      "Payment Info Entered": (p) => shop.trackCheckoutStep({ step: 2, payment_method: p.payment_method }),
      "Order Completed": (p, products) => shop.trackTransaction({ transaction_id: p.order_id, revenue: p.revenue,
        currency: p.currency, payment_method: "card", tax: p.tax, shipping: p.shipping, discount_code: p.coupon, products }),
      "Promotion Viewed": (p) => shop.trackPromotionView({ id: p.promotion_id, name: p.name, creative_id: p.creative }),
      "Order Refunded": (p, products) => shop.trackRefund({ transaction_id: p.order_id, refund_amount: 12.5,
        currency: p.currency, products }),
    };
    for (const { event, properties: p } of journey) {
      const products = (p.products ?? ("product_id" in p ? [p] : [])).map(product(p.currency));
      say[event]?.(p, products);
      await pause(200); // what a lost answer left in its queue goes out with the next event
    }
  },

  async posthog(address, who, journey) {
    const { posthog } = window;
    posthog.init("wk", { api_host: address, autocapture: false, capture_pageview: false, capture_pageleave: false,
      persistence: "memory", opt_out_useragent_filter: true }); // it says nothing of browsers that are driven by a test
    posthog.identify(who);
    posthog.capture("Product Viewed", BAD, { timestamp: at(0, journey) });
    journey.forEach(({ event, properties }, n) => posthog.capture(event, properties, { timestamp: at(n, journey) }));
  },
};
