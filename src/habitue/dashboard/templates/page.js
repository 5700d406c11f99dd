// What this page has beside its charts: "Try it".

const box = document.getElementById("tryit");
if (box) {
  try {
    tryIt(rowsAt(box.dataset.path), box);
  } catch (error) {
    report_failure(error);
  }
}
