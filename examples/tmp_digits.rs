use cohort::train::{step::*, optimizer::*}; use cohort::torch::*; use cohort::graph::*; use cohort::config::{LossTerms,Sgd,Schedule}; use tch::*; use std::io::Read;
fn main(){
 let args:Vec<String>=std::env::args().collect();
 let names:Vec<&str>=args[1].split(',').collect(); let pre:usize=args[2].parse().unwrap(); let ep:usize=args[3].parse().unwrap(); let gamma:f64=args[4].parse().unwrap(); let lr:f64=args[5].parse().unwrap();
 let mut s=String::new(); flate2::read::GzDecoder::new(std::fs::File::open("/work/shared/data/digits/digits.csv.gz").unwrap()).read_to_string(&mut s).unwrap();
 let rows:Vec<Vec<f32>>=s.lines().map(|l|l.split(',').map(|v|v.parse().unwrap()).collect()).collect();
 let n=rows.len(); let xs:Vec<f32>=rows.iter().flat_map(|r|r[..64].iter().map(|v|(v/16.-0.305)/0.376)).collect(); let ys:Vec<i64>=rows.iter().map(|r|r[64] as i64).collect();
 let x=Tensor::from_slice(&xs).view([n as i64,1,8,8]); let y=Tensor::from_slice(&ys);
 tch::manual_seed(1); let perm=Tensor::randperm(n as i64,(Kind::Int64,Device::Cpu)); let (x,y)=(x.index_select(0,&perm),y.index_select(0,&perm));
 let (xt,yt,xe,ye)=(x.narrow(0,0,1222),y.narrow(0,0,1222),x.narrow(0,1437,360),y.narrow(0,1437,360));
 let mk=|w:&Weights,g:&Graph|{ Network::new(g,w,Device::Cpu,Kind::Float).unwrap()};
 let graphs:Vec<Graph>=names.iter().map(|nm|{let spec=cohort::zoo::find_model(nm,std::path::Path::new(".")).unwrap(); cohort::zoo::build(&spec,[1,8,8],10).unwrap()}).collect();
 let sgd=Sgd{lr,..Sgd::default()};
 let mut st:Vec<Student>=graphs.iter().enumerate().map(|(k,g)|{let network=mk(&initial_weights(g,k as u64),g); let optimizer=SgdState::new(&network,&sgd).unwrap(); println!("{} params {} macs {}",names[k],cost(g).params,cost(g).macs); Student{name:names[k].into(),network,frozen:None,optimizer}}).collect();
 let t0=std::time::Instant::now();
 for (phase,epochs) in [(0,pre),(1,ep)] {
  let terms=if phase==0 {LossTerms{alpha:1.,beta:0.,gamma:0.,beta0:0.,beta1:0.,beta2:0.,temperature:4.}} else {LossTerms{alpha:1.,beta:1.,gamma,beta0:1.,beta1:2.,beta2:1.,temperature:4.}};
  if phase==1 { for (k,s) in st.iter_mut().enumerate(){ let w=s.network.weights().unwrap(); s.optimizer=SgdState::new(&s.network,&sgd).unwrap(); let (fg,fw)=fold_batch_norm(&graphs[k],&w).unwrap(); s.frozen=Some(mk(&fw,&fg)); } }
  let spe=1222/32; 
  for e in 0..epochs { let p=Tensor::randperm(1222,(Kind::Int64,Device::Cpu)); 
   for b in 0..spe { let idx=p.narrow(0,(b*32) as i64,32); let xb=xt.index_select(0,&idx).constant_pad_nd([1i64,1,1,1],-0.81); let (dx,dy)=(i64::from(Vec::<i64>::try_from(Tensor::randint(3,[2],(Kind::Int64,Device::Cpu))).unwrap()[0]),Vec::<i64>::try_from(Tensor::randint(3,[2],(Kind::Int64,Device::Cpu))).unwrap()[0]); let xb=xb.narrow(2,dx,8).narrow(3,dy,8).contiguous(); let yb=yt.index_select(0,&idx);
    let l=cohort::train::learning_rate(&Schedule::default(),lr,e*spe+b,spe,epochs); let _=step(&mut st,&terms,&xb,&yb,l).unwrap(); }
   if e%4==3||e+1==epochs { let _g=tch::no_grad_guard(); let acc:Vec<String>=st.iter().map(|s|{let (z,_)=s.network.classify(&xe,Mode::Eval).unwrap(); format!("{:.2}",100.*z.argmax(-1,false).eq_tensor(&ye).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]))}).collect(); println!("phase {phase} epoch {e} {:?} {:.1}s",acc,t0.elapsed().as_secs_f64()); }
  }}
}
