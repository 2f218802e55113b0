/* SPDX-License-Identifier: Apache-2.0 */
/* chat_cases.h -- templates with the marks of their families, written for this
 * test, and conversations as transformers 5.23 writes them:
 * apply_chat_template(messages, tokenize=False, add_generation_prompt=answer).
 * NULL: the template has no place for it.                                      */
static const char *const written[][5] = {
    { "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_sta"
      "rt|>system\nYou help.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + m['role'] + "
      "'\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_pro"
      "mpt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
      "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n<"
      "|im_start|>assistant\n",
      "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\n What? <|im_end|>\n<"
      "|im_start|>assistant\nYes. <|im_end|>\n<|im_start|>user\nWhy?\n<|im_end|>\n<|im_"
      "start|>assistant\n",
      "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_"
      "start|>assistant\n4<|im_end|>\n",
      "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_"
      "start|>assistant\n<think>\nsum\n</think>\n\n4<|im_end|>\n<|im_start|>user\nsure?"
      "<|im_end|>\n<|im_start|>assistant\n<think>hm</think>yes<|im_end|>\n",
    },
    { "{%- set ns = namespace(q=messages|length - 1) %}{%- for m in messages %}{%- if m"
      ".role == 'user' %}{%- set ns.q = loop.index0 %}{%- endif %}{%- endfor %}{%- if m"
      "essages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content "
      "+ '<|im_end|>\\n' }}{%- endif %}{%- for m in messages %}{%- if m.role == 'user' "
      "%}{{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}{%- elif m.role == '"
      "assistant' %}{%- set c = m.content %}{%- set r = '' %}{%- if '</think>' in m.con"
      "tent %}{%- set r = c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lst"
      "rip('\\n') %}{%- set c = c.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{%-"
      " if loop.index0 > ns.q and (loop.last or r) %}{{- '<|im_start|>assistant\\n<thin"
      "k>\\n' + r.strip('\\n') + '\\n</think>\\n\\n' + c.lstrip('\\n') }}{%- else %}{{-"
      " '<|im_start|>assistant\\n' + c }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}"
      "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%-"
      " endif %}",
      "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
      "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\n What? <|im_end|>\n<"
      "|im_start|>assistant\nYes. <|im_end|>\n<|im_start|>user\nWhy?\n<|im_end|>\n<|im_"
      "start|>assistant\n",
      "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
      "4<|im_end|>\n",
      "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start"
      "|>user\nsure?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nyes<|im"
      "_end|>\n",
    },
    { "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys "
      "= messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false"
      " %}{% endif %}{% for m in rest %}{% if loop.index0 == 0 and sys != false %}{% se"
      "t c = '<<SYS>>\n' + sys + '\n<</SYS>>\n\n' + m['content'] %}{% else %}{% set c ="
      " m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' "
      "+ c.strip() + ' [/INST]' }}{% else %}{{ ' ' + c.strip() + ' ' + eos_token }}{% e"
      "ndif %}{% endfor %}",
      "<s>[INST] Hi there [/INST]",
      "<s>[INST] <<SYS>>\nBe brief. \n<</SYS>>\n\n What? [/INST] Yes. </s><s>[INST] Why"
      "? [/INST]",
      "<s>[INST] 2+2? [/INST] 4 </s>",
      "<s>[INST] 2+2? [/INST] <think>\nsum\n</think>\n\n4 </s><s>[INST] sure? [/INST] <"
      "think>hm</think>yes </s>",
    },
    { "{% for m in messages %}{% set c = '<|start_header_id|>' + m['role'] + '<|end_hea"
      "der_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{%"
      " set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}{% if add_generation_prom"
      "pt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
      "<b><|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_"
      "id|>assistant<|end_header_id|>\n\n",
      "<b><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_head"
      "er_id|>user<|end_header_id|>\n\nWhat?<|eot_id|><|start_header_id|>assistant<|end"
      "_header_id|>\n\nYes.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|"
      "eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      "<b><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>"
      "assistant<|end_header_id|>\n\n4<|eot_id|>",
      "<b><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>"
      "assistant<|end_header_id|>\n\n<think>\nsum\n</think>\n\n4<|eot_id|><|start_heade"
      "r_id|>user<|end_header_id|>\n\nsure?<|eot_id|><|start_header_id|>assistant<|end_"
      "header_id|>\n\n<think>hm</think>yes<|eot_id|>",
    },
    { "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set s = messages[0]"
      "['content']|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set s = '' %"
      "}{%- endif %}{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{{- 'Cutti"
      "ng Knowledge Date: December 2023\\n' }}{{- 'Today Date: 26 Jul 2024\\n\\n' }}{{-"
      " s }}{{- '<|eot_id|>' }}{%- for m in messages %}{{- '<|start_header_id|>' + m['r"
      "ole'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{%- end"
      "for %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_head"
      "er_id|>\\n\\n' }}{%- endif %}",
      "<b><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: Decembe"
      "r 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header"
      "_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      "<b><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: Decembe"
      "r 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|e"
      "nd_header_id|>\n\nWhat?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\nYes.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|star"
      "t_header_id|>assistant<|end_header_id|>\n\n",
      "<b><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: Decembe"
      "r 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header"
      "_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_i"
      "d|>",
      "<b><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: Decembe"
      "r 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header"
      "_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>"
      "\nsum\n</think>\n\n4<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nsure?<"
      "|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>hm</think>yes<|"
      "eot_id|>",
    },
    { "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{"
      " '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] +"
      " eos_token + ' ' }}{% endif %}{% endfor %}",
      "<s>[INST] Hi there [/INST]",
      NULL,
      "<s>[INST] 2+2? [/INST]4</s> ",
      "<s>[INST] 2+2? [/INST]<think>\nsum\n</think>\n\n4</s> [INST] sure? [/INST]<think"
      ">hm</think>yes</s> ",
    },
    { "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['c"
      "ontent'] %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%"
      "- endif %}{{- bos_token }}{%- for message in rest %}{%- if message['role'] == 'u"
      "ser' %}{%- if loop.last and system_message is defined %}{{- '[INST] ' + system_m"
      "essage + '\\n\\n' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST] ' + "
      "message['content'] + '[/INST]' }}{%- endif %}{%- else %}{{- ' ' + message['conte"
      "nt'] + eos_token }}{%- endif %}{%- endfor %}",
      "<s>[INST] Hi there[/INST]",
      "<s>[INST]  What? [/INST] Yes. </s>[INST] Be brief. \n\nWhy?\n[/INST]",
      "<s>[INST] 2+2?[/INST] 4</s>",
      "<s>[INST] 2+2?[/INST] <think>\nsum\n</think>\n\n4</s>[INST] sure?[/INST] <think>"
      "hm</think>yes</s>",
    },
};
