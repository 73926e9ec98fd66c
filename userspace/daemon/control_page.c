/* SPDX-License-Identifier: Apache-2.0 */
/** control_page.c: the page of the admin: one file, no other is loaded, and names from the
 * configuration get into it as text alone. */
#include "daemon/control_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
static const char page[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>weir</title>\n"
    "<style>\n"
    ":root{--bg:#f6f7f9;--card:#fff;--ink:#17202a;--dim:#66727f;--line:#e3e7eb;--good:#15803d;--bad:#b91c1c;--warn:#a16207;--accent:#0e7490}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#0f1419;--card:#182028;--ink:#e6ebf0;--dim:#8b98a5;--line:#2a343e;--good:#4ade80;--bad:#f87171;--warn:#fbbf24;--accent:#22d3ee}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:28px 20px 48px}\n"
    "header{display:flex;align-items:baseline;gap:14px;flex-wrap:wrap;margin-bottom:20px}\n"
    "h1{font-size:26px;letter-spacing:-.5px;margin:0}\n"
    "h1 b{color:var(--accent)}\n"
    "h2{font-size:13px;text-transform:uppercase;letter-spacing:.08em;color:var(--dim);margin:28px 0 8px}\n"
    ".dim{color:var(--dim)}\n"
    ".pill{border-radius:999px;padding:2px 11px;font-size:13px;font-weight:600;border:1px solid currentColor}\n"
    ".good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}\n"
    ".tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}\n"
    ".tile{padding:14px 16px}\n"
    ".tile b{display:block;font-size:24px;font-weight:650;font-variant-numeric:tabular-nums}\n"
    ".tile span{color:var(--dim);font-size:13px}\n"
    ".card{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:8px 14px;border-bottom:1px solid var(--line);white-space:nowrap}\n"
    "tr:last-child td{border-bottom:0}\n"
    "th{font-size:12px;font-weight:600;color:var(--dim)}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "td.wrap{white-space:normal}\n"
    "code{font:13px ui-monospace,monospace}\n"
    "footer{margin-top:26px;font-size:13px;color:var(--dim)}\n"
    "a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}\n"
    "</style>\n"
    "<main>\n"
    "<header><h1><b>&#8779;</b> weir</h1><span id=\"what\" class=\"dim\">…</span><span id=\"state\" class=\"pill dim\">…</span></header>\n"
    "<div class=\"tiles\" id=\"tiles\"></div>\n"
    "<h2>Listeners</h2><div class=\"card\"><table id=\"listeners\"></table></div>\n"
    "<h2>Servers</h2><div class=\"card\"><table id=\"servers\"></table></div>\n"
    "<h2>What there is to ask</h2><div class=\"card\"><table>\n";

/* Behind the table of what this door leads to. */
static const char page_tail[] =
    "</table></div>\n"
    "<footer>Figures are read every two seconds.</footer>\n"
    "</main>\n"
    "<script>\n"
    "const $=id=>document.getElementById(id);\n"
    "const n=x=>x>=1e9?(x/1e9).toFixed(2)+' G':x>=1e6?(x/1e6).toFixed(2)+' M':x>=1e4?(x/1e3).toFixed(1)+' k':String(x);\n"
    "const mib=x=>(x/1048576).toFixed(x<1e8?1:0)+' MiB';\n"
    "const span=s=>s<60?s+' s':s<3600?(s/60|0)+' min':s<86400?(s/3600|0)+' h '+((s/60|0)%60)+' min':(s/86400|0)+' d '+((s/3600|0)%24)+' h';\n"
    "function el(tag,text,cls){const e=document.createElement(tag);if(text!==undefined)e.textContent=text;if(cls)e.className=cls;return e}\n"
    "function table(id,heads,rows){const t=$(id);t.replaceChildren();const h=el('tr');for(const[x,c]of heads)h.append(el('th',x,c));t.append(h);\n"
    "for(const r of rows){const tr=el('tr');for(const[x,c]of r)tr.append(el('td',x,c));t.append(tr)}\n"
    "if(!rows.length){const tr=el('tr');tr.append(el('td','none','dim'));t.append(tr)}}\n"
    "let last=null;\n"
    "function tiles(s){const now=Date.now();let rate='…';\n"
    "if(last)rate=n(Math.max(0,Math.round((s.requests-last.requests)*1000/(now-last.at))));\n"
    "last={requests:s.requests,at:now};\n"
    "const list=[[rate,'requests a second'],[n(s.requests),'requests in all'],[n(s.connections),'connections'],[n(s.in_flight),'in flight'],[n(s.refused),'refused'],[mib(s.memory_bytes),s.memory_limit_bytes?'of '+mib(s.memory_limit_bytes):'memory']];\n"
    "$('tiles').replaceChildren(...list.map(([v,t])=>{const d=el('div',undefined,'tile');d.append(el('b',v),el('span',t));return d}))}\n"
    "async function tick(){try{\n"
    "const[s,u]=await Promise.all(['v1/status','v1/upstreams'].map(p=>fetch(p).then(r=>r.json())));\n"
    "document.title='weir · '+s.instance;\n"
    "$('what').textContent=s.version+' · instance '+s.instance+' · up '+span(s.uptime_s)+' · '+s.workers+(s.workers==1?' worker':' workers')+' · pid '+s.pid;\n"
    "$('state').textContent=s.state;$('state').className='pill '+(s.state=='ready'?'good':'warn');\n"
    "tiles(s);\n"
    "table('listeners',[['name'],['address'],['protocol'],['connections','n'],['in flight','n'],['requests','n'],['accepted','n'],['refused','n']],\n"
    "s.listeners.map(l=>[[l.name],[l.bind.join(', ')],[l.tls?'https':'http'],[n(l.connections),'n'],[n(l.in_flight),'n'],[n(l.requests),'n'],[n(l.accepted),'n'],[n(l.refused),'n']]));\n"
    "table('servers',[['upstream'],['server'],['state'],['weight','n'],['active','n'],['idle','n'],['requests','n'],['failed','n'],['last fault']],\n"
    "u.flatMap(c=>c.servers.map(v=>[[c.name],[v.name],[v.state,v.state=='up'?'good':v.state=='down'?'bad':'warn'],[v.weight,'n'],[n(v.active),'n'],[n(v.idle),'n'],[n(v.requests),'n'],[n(v.failed),'n'],[v.last_fault,'dim wrap']])));\n"
    "}catch(e){$('state').textContent='no answer';$('state').className='pill bad'}\n"
    "setTimeout(tick,2000)}\n"
    "tick();\n"
    "</script>\n"
    "</html>\n";
/* clang-format on */

/* The rows of the table of routes that this door offers: a link where it is to be read. */
static void print_routes(const struct control_call *call, FILE *out)
{
    for (const struct control_route *route = control_routes; route->path; route++) {
        if (!control_offers(call, route))
            continue;
        fprintf(out, "<tr><td>%s</td><td>", route->method);
        if (strcmp(route->method, "GET") == 0)
            fprintf(out, "<a href=\"%s\"><code>%s</code></a>",
                    route->path[1] ? route->path + 1 : ".", route->path);
        else
            fprintf(out, "<code>%s</code>", route->path);
        fprintf(out, "</td><td class=\"wrap dim\">%s</td></tr>\n", route->text);
    }
}

static void reply(struct control_call *call, struct weir_str text)
{
    struct weir_message *answer;

    call->replied = true;
    answer = weir_httpd_answer(call->req, 200, "text/html; charset=utf-8");
    if (weir_message_push(
            answer, WEIR_F_OTHER, WEIR_STR("content-security-policy"),
            WEIR_STR("default-src 'none'; style-src 'unsafe-inline'; script-src "
                     "'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'")) != 0) {
        weir_httpd_abort(call->req);
        return;
    }
    weir_httpd_finish(call->req, text);
}

void control_get_page(struct control_call *call)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    if (call->replied)
        return;
    out = open_memstream(&text, &len);
    if (!out) {
        control_fail(call, 503, "out of memory");
        return;
    }
    fputs(page, out);
    print_routes(call, out);
    fputs(page_tail, out);
    if (fclose(out) == 0)
        reply(call, (struct weir_str){ text, len });
    else
        control_fail(call, 503, "out of memory");
    free(text);
}
