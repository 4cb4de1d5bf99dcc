/* cursormesh 0.1.0 | MIT OR Apache-2.0 */
function e(o,t,n={}){throw new Error("not yet")}function r(o,t){throw new Error("not yet")}export{r as dropIn,e as render};
