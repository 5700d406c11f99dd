// Fetch lists by the real recommender clients of Node: node read.mjs ADDRESS SECRET, in the folder of the packages.
// Prints what they gave as JSON.
import { createRequire } from "node:module";
import { join } from "node:path";

const [address, secret] = process.argv.slice(2);
const need = createRequire(join(process.cwd(), "package.json"));
const { Gorse } = need("gorsejs");
const { PersonalizeRuntimeClient, GetRecommendationsCommand, GetPersonalizedRankingCommand } =
  need("@aws-sdk/client-personalize-runtime");
const ARN = "arn:aws:personalize:eu-west-1:1:recommender/";

const gorse = new Gorse({ endpoint: address, secret });
const personalize = new PersonalizeRuntimeClient({ endpoint: address, region: "eu-west-1", maxAttempts: 1,
  credentials: { accessKeyId: secret, secretAccessKey: "-" } });
const refused = async (command) => {
  try {
    await personalize.send(command);
    return null;
  } catch (error) {
    return error.name;
  }
};
const home = { recommenderArn: `${ARN}home`, userId: "u1" };

console.log(JSON.stringify({
  recommend: await gorse.getRecommend({ userId: "u1", cursorOptions: { n: 4 } }),
  second: await gorse.getRecommend({ userId: "u1", cursorOptions: { n: 2, offset: 2 } }),
  table: await gorse.getRecommend({ userId: "u1", category: "Table", cursorOptions: { n: 20 } }),
  popular: await gorse.getPopular({ cursorOptions: { n: 3 } }),
  session: await gorse.getSessionRecommend([{ FeedbackType: "read", ItemId: "red-1", UserId: "", Timestamp: new Date() }],
    { cursorOptions: { n: 2 } }),
  item: await gorse.getItem("red-1"),
  runtime: await personalize.send(new GetRecommendationsCommand({ ...home, numResults: 4 })),
  similar: await personalize.send(new GetRecommendationsCommand({ recommenderArn: `${ARN}similar`, itemId: "red-1", numResults: 3 })),
  ranking: await personalize.send(new GetPersonalizedRankingCommand({ campaignArn: `${ARN}x`, userId: "u1",
    inputList: ["red-1", "blue-1", "gone", "blue-2"] })),
  bad: await refused(new GetRecommendationsCommand({ ...home, filterArn: `${ARN}what` })),
  absent: await refused(new GetRecommendationsCommand({ recommenderArn: `${ARN}similar`, itemId: "nope" })),
}));
