// Counts the words of a text, and says how much time is left: an ordinary Node.js function.

export const handler = async (event, context) => {
  const words = (event.text ?? '').match(/[\p{L}\p{N}]+/gu) ?? [];
  console.info('counted', words.length);
  return {
    words: words.length,
    longest: words.reduce((longest, word) => (word.length > longest.length ? word : longest), ''),
    millisecondsLeft: context.getRemainingTimeInMillis(),
  };
};
