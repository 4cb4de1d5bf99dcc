/** The styles of what is drawn. `!important` on a host wins over whatever the page says of its elements. */

const HOST = `
:host{all:initial!important;forced-color-adjust:none!important;font:500 13px/1.35 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif!important}
:host([hidden]){display:none!important}
*{box-sizing:border-box}
[hidden]{display:none!important}
@media print{:host{display:none!important}}
`;

export const LAYER = `${HOST}
:host{position:fixed!important;inset:0!important;width:auto!important;height:auto!important;z-index:2147483646!important;pointer-events:none!important;overflow:visible!important;direction:ltr!important;user-select:none!important;-webkit-user-select:none!important;contain:layout style!important}
.glass{position:absolute;left:0;top:0;overflow:hidden;transform-origin:0 0}
.pane{position:absolute;left:0;top:0;width:0;height:0}
.cursor,.spark{position:absolute;left:0;top:0;width:0;height:0;contain:layout style}
.cursor{will-change:transform}
.cursor.waiting{visibility:hidden}
.cursor.gone{opacity:0;transition:opacity .18s linear}
.arrow{fill:var(--fill);position:absolute;left:-3px;top:-3px;width:26px;height:28px;overflow:visible}
.text{position:absolute;left:15px;top:20px;display:flex;flex-direction:column;align-items:flex-start;gap:3px;width:max-content;max-width:260px}
.flip .text{left:auto;right:-6px;align-items:flex-end}
.lift .text{top:auto;bottom:8px}
.label,.bubble{box-shadow:0 0 0 1.5px #fff,0 2px 7px rgb(0 0 0/.28);border-radius:5px 12px 12px 12px;unicode-bidi:isolate}
.flip .label,.flip .bubble{border-radius:12px 5px 12px 12px}
.lift .label,.lift .bubble{border-radius:12px}
.label{padding:2px 8px 3px;max-width:160px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-size:12px;font-weight:600}
.label,.bubble{background:var(--fill);color:var(--ink)}
.dim .arrow,.dim .ring{opacity:.45}
.dim .label,.dim .bubble{background:#e9ebef;color:#454b57}
.bubble{padding:6px 11px 7px;max-width:260px;max-height:120px;overflow:hidden;overflow-wrap:anywhere;font-size:14px}
.ring{position:absolute;left:-17px;top:-17px;width:34px;height:34px;border-radius:50%;display:none;background:none;color:var(--fill);border:2.5px solid;box-shadow:0 0 0 1.5px #fff,inset 0 0 0 1.5px #fff}
.ring::before{content:"";position:absolute;inset:0;border-radius:50%;background:currentColor;opacity:.28}
.ring::after{content:"";position:absolute;inset:-2.5px;border-radius:50%;border:3px solid;animation:ripple .6s ease-out both}
.touch .ring{display:block}
.touch.gone{transition-duration:.55s}
.touch .arrow{display:none}
.touch .text{left:22px}
.touch.flip .text{right:22px}
.mine .arrow,.mine .label,.mine .ring{display:none}
.spark{will-change:transform}
.emoji{position:absolute;left:-40px;top:-40px;width:80px;height:60px;text-align:center;white-space:nowrap;overflow:hidden;font-size:30px;line-height:60px;font-weight:600;color:#15171c;text-shadow:0 0 3px #fff,0 0 3px #fff,0 0 6px #fff;animation:rise 1.6s cubic-bezier(.2,.7,.4,1) both}
@keyframes ripple{from{transform:scale(.6);opacity:.9}to{transform:scale(2.1);opacity:0}}
@keyframes rise{0%{transform:translateY(8px) scale(.4);opacity:0}15%{transform:translateY(-8px) scale(1.15);opacity:1}70%{opacity:1}to{transform:translateY(-90px) scale(1);opacity:0}}
@media (prefers-reduced-motion:reduce){.emoji,.ring::after{animation:none}.ring::after{display:none}.cursor.gone{transition:none}}
`;

export const SPOKEN = `${HOST}
:host{position:fixed!important;width:1px!important;height:1px!important;margin:-1px!important;overflow:hidden!important;clip-path:inset(50%)!important;white-space:nowrap!important;pointer-events:none!important}
`;

export const FACES = `${HOST}
:host{display:inline-block!important;vertical-align:middle!important}
:host([data-corner]){position:fixed!important;z-index:2147483645!important;pointer-events:none!important}
:host([data-corner^=top]){top:calc(14px + env(safe-area-inset-top))!important}
:host([data-corner^=bottom]){bottom:calc(14px + env(safe-area-inset-bottom))!important}
:host([data-corner$=right]){right:calc(14px + env(safe-area-inset-right))!important}
:host([data-corner$=left]){left:calc(14px + env(safe-area-inset-left))!important}
.faces{list-style:none;display:flex;margin:0;padding:2px 0;pointer-events:none}
.item{position:relative;margin-inline-start:-5px;pointer-events:auto}
.item:first-child{margin-inline-start:0}
.item:hover,.item:focus-within{z-index:1}
.face{display:flex;align-items:center;justify-content:center;width:34px;height:34px;padding:0;margin:0;border:2px solid #fff;border-radius:50%;font:600 12.5px/1 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;box-shadow:0 1px 5px rgb(0 0 0/.3);overflow:hidden;white-space:nowrap;cursor:default;transition:background .2s,color .2s}
.face.picture{font-size:17px}
button.face{cursor:pointer}
button.face:focus-visible{outline:3px solid #1a66ff;outline-offset:2px;box-shadow:0 0 0 3px #fff}
.face{background:var(--fill);color:var(--ink)}
.item.dim .face{background:#e9ebef;color:#454b57;border-color:var(--fill)}
.item.gone .face{background:#e9ebef;color:#5b616d;border:2px dashed #9aa0ab}
.face.more{background:#3a3f4b;color:#fff}
.tip{position:absolute;bottom:calc(100% + 7px);left:50%;transform:translateX(-50%);padding:4px 9px 5px;border-radius:7px;background:#1d2027;color:#fff;font-size:12.5px;white-space:nowrap;max-width:240px;overflow:hidden;text-overflow:ellipsis;unicode-bidi:isolate;opacity:0;pointer-events:none;transition:opacity .12s;box-shadow:0 1px 6px rgb(0 0 0/.3)}
.item:hover .tip,.item:focus-within .tip{opacity:1}
:host([data-corner^=top]) .tip{bottom:auto;top:calc(100% + 7px)}
:host([data-corner$=right]) .tip{left:auto;right:0;transform:none}
:host([data-corner$=left]) .tip{left:0;transform:none}
@media (prefers-reduced-motion:reduce){.face,.tip{transition:none}}
`;
