import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["docs/_static/generated/**", "docs/_static/mathjax/**"] },
  js.configs.recommended,
  {
    files: ["cnnhw/web/*.js", "docs/_static/**/*.js"],
    languageOptions: { ecmaVersion: 2023, sourceType: "script", globals: globals.browser },
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", "no-unused-vars": ["error", { vars: "local" }] },
  },
];
